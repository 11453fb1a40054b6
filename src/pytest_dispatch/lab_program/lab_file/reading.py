"""Reads a lab file and the files of templates that it names, and collects everything that is wrong with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, RootModel, ValidationError

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.lab_program.lab_file import document as yaml
from pytest_dispatch.lab_program.lab_file.checks import cross_checks, repeated_templates
from pytest_dispatch.lab_program.lab_file.cycle_check import cycle_problems
from pytest_dispatch.lab_program.lab_file.fields import DAY
from pytest_dispatch.lab_program.lab_file.problems import problems_of
from pytest_dispatch.lab_program.lab_file.sections import LabFile, TemplateSection
from pytest_dispatch.lab_program.lab_file.template_check import TemplateCheck

Fetch = Callable[[str], str]
M = TypeVar("M", bound=BaseModel)


class LabFileError(ConfigError):
    """A lab file cannot be used; `problems` has a line for each reason, with file, line and column."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class TemplateList(RootModel[list[TemplateSection]]):
    """A file of templates: a list of them."""


@dataclass(frozen=True, slots=True)
class SourcedTemplate:
    """A template with its group, and where it comes from.

    Attributes:
        source: The file or the URL; empty for the lab file itself.
    """

    group: str
    template: TemplateSection
    source: str = ""


@dataclass(frozen=True, slots=True)
class ReadLabFile:
    """A lab file that can be used.

    Attributes:
        path: The file.
        content: What is in it, with variables replaced.
        templates: All templates of all groups, in order.
        left_out: URLs of templates that were not fetched.
        unknown_kinds: Kinds of templates that are not installed here, whose templates were not checked.
        document: Where everything in it stands.
    """

    path: Path
    content: LabFile
    templates: tuple[SourcedTemplate, ...]
    document: yaml.Document = field(repr=False)  # it has secrets
    left_out: tuple[str, ...] = ()
    unknown_kinds: tuple[str, ...] = ()


def read_lab_file(
    path: Path, environ: Mapping[str, str], fetch: Fetch | None = None, text: str | None = None
) -> ReadLabFile:
    """Read and check a lab file.

    Args:
        path: The file.
        environ: Variables that it may name.
        fetch: Returns the text at a URL, or raises ConfigError; None to leave URLs out.
        text: Its content; None to read it.

    Raises:
        LabFileError: Something is wrong; names everything that is.
    """
    return _Reader(path, environ, fetch).read(text_of(path) if text is None else text)


class _Reader:
    """One reading of a lab file."""

    def __init__(self, path: Path, environ: Mapping[str, str], fetch: Fetch | None) -> None:
        self._path = path
        self._environ = environ
        self._fetch = fetch
        self._problems: list[yaml.Problem] = []
        self._seen: dict[str, list[tuple[yaml.Document, yaml.Path]]] = defaultdict(list)  # places of templates, by id
        self._left_out: list[str] = []

    def read(self, text: str) -> ReadLabFile:
        document = self._document(str(self._path), text)
        content = self._checked(document, LabFile) if document is not None else None
        templates = self._templates(document) if document is not None else []
        self._problems += cross_checks(document) if document is not None else ()
        self._problems += repeated_templates(self._seen)
        self._refuse_problems()
        if content is None or document is None:
            raise LabFileError([f"{self._path}: expected the configuration of a lab"])
        inline = [SourcedTemplate(group.id, template) for group in content.groups for template in group.templates]
        every = (*inline, *templates)
        unknown = self._check_kinds(content, every)
        self._check_health(document, content, every)
        self._problems += cycle_problems(document, content)
        self._refuse_problems()
        return ReadLabFile(self._path, content, every, document, tuple(self._left_out), unknown)

    def _refuse_problems(self) -> None:
        if self._problems:
            raise LabFileError([*dict.fromkeys(map(str, sorted(self._problems, key=self._order)))])

    def _check_kinds(self, content: LabFile, templates: Sequence[SourcedTemplate]) -> tuple[str, ...]:
        """Note what the kinds of templates refuse; return the kinds that are not installed."""
        check = TemplateCheck(content)
        for each in templates:
            document, place = self._seen[each.template.id][0]
            for key, what in check.refusals(each.template):
                self._problems.append(document.problem((*place[:-1], key), what))
        return tuple(check.unknown)

    def _check_health(
        self, document: yaml.Document | None, content: LabFile, templates: Sequence[SourcedTemplate]
    ) -> None:
        """Note groups whose health workload is no template of theirs, or that name a time of day for no day."""
        for number, group in enumerate(content.groups):
            if group.health is None or document is None or self._left_out:
                continue
            known = [each.template.id for each in templates if each.group == group.id]
            here: yaml.Path = ("groups", number, "health")
            if group.health.template not in known:
                what = f"expected a template of the group ({', '.join(known) or 'it has none'})"
                place = (*here, "template")
                self._problems.append(document.problem(place, f"{what}, got {document.got(place)}"))
            place = (*here, "every")
            if not group.health.every:
                what = "expected a duration longer than 0 s"
                self._problems.append(document.problem(place, f"{what}, got {document.got(place)}"))
            elif group.health.at is not None and group.health.every % DAY:
                what = "expected whole days, such as 24h, because of `at`"
                self._problems.append(document.problem(place, f"{what}, got {document.got(place)}"))

    def _order(self, problem: yaml.Problem) -> tuple[bool, str, int, int, str]:
        """Return what problems are sorted by: those of the lab file come first."""
        return problem.file != str(self._path), problem.file, problem.line, problem.column, problem.what

    def _document(self, name: str, text: str) -> yaml.Document | None:
        try:
            return yaml.read_document(name, text, self._environ)
        except yaml.UnreadableError as error:
            self._problems.append(error.problem)
            return None

    def _checked(self, document: yaml.Document, model: type[M]) -> M | None:
        self._problems += (document.problem(path, what) for path, what in document.problems)
        empty: object = [] if model is TemplateList else {}
        try:
            content = model.model_validate(empty if document.value is None else document.value)
        except ValidationError as error:
            self._problems += problems_of(error, document, model)
            return None
        return None if document.problems else content

    def _templates(self, document: yaml.Document) -> list[SourcedTemplate]:
        """Return the templates that stand elsewhere, also where something else in the lab file is wrong."""
        found = []
        groups = document.at(("groups",))
        for number in range(len(groups) if isinstance(groups, list) else 0):
            here: yaml.Path = ("groups", number)
            for place, name in _texts(document, (*here, "templates")):
                self._seen[name].append((document, place))
            for key, read in (("template_files", self._file), ("template_urls", self._url)):
                for place, source in _texts(document, (*here, key)):
                    group = str(document.at((*here, "id")))
                    elsewhere = self._elsewhere(document, place, source, read)
                    found += [SourcedTemplate(group, template, source) for template in elsewhere]
        return found

    def _elsewhere(
        self, document: yaml.Document, place: yaml.Path, source: str, read: Callable[[str], tuple[str, str]]
    ) -> list[TemplateSection]:
        """Return the templates of another file or of a URL; what is wrong with it is noted."""
        try:
            name, text = read(source)
        except ConfigError as error:
            self._problems.append(document.problem(place, str(error)))
            return []
        other = self._document(name, text)
        content = self._checked(other, TemplateList) if other is not None else None
        if other is None or content is None:
            return []
        for index, template in enumerate(content.root):
            self._seen[template.id].append((other, (index, "id")))
        return content.root

    def _file(self, source: str) -> tuple[str, str]:
        path = self._path.parent / Path(source).expanduser()
        return str(path), text_of(path)

    def _url(self, source: str) -> tuple[str, str]:
        if self._fetch is None:
            self._left_out.append(source)
            return source, "[]"
        return source, self._fetch(source)


def _texts(document: yaml.Document, path: yaml.Path) -> Iterator[tuple[yaml.Path, str]]:
    """Yield the texts of a list, or the ids of its items, with their places."""
    found = document.at(path)
    for index, item in enumerate(found if isinstance(found, list) else ()):
        if isinstance(item, str):
            yield (*path, index), item
        elif isinstance(item, dict) and isinstance(item.get("id"), str):
            yield (*path, index, "id"), item["id"]


def text_of(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ConfigError: It cannot be read, is too long or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(yaml.MOST_BYTES + 1)
        if len(data) > yaml.MOST_BYTES:
            raise ConfigError(f"{path}: expected at most {yaml.MOST_BYTES} bytes, got more")
        return data.decode()
    except OSError as error:
        raise ConfigError(f"{path}: expected a file that can be read, got: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8, got other bytes at {error.start}") from None
