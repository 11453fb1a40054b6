"""Reads YAML into plain values, and remembers at which line and column each of them stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pytest_dispatch.lab_program.lab_file.interpolation import VariableError, interpolated

Path = tuple[str | int, ...]

MOST_BYTES = 4 * 2**20  # of a file: a YAML parser in Python reads about a megabyte in some seconds
DEEPEST = 40  # most levels of nesting


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong at one place of a file."""

    file: str
    line: int
    column: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.what}"


class UnreadableError(Exception):
    """A file is not YAML."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content.

    Attributes:
        name: The file, for messages.
        value: What is in it, with variables replaced: dicts, lists, texts, numbers, booleans and None.
        written: The scalars as they are written, by path; for messages, which so show no variable's value.
        keys: Line and column of each key or list item, by path, from 1.
        values: Line and column of each value.
        problems: What is wrong with its variables and keys.
    """

    name: str
    value: Any = None
    written: dict[Path, Any] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    problems: list[tuple[Path, str]] = field(default_factory=list)

    def problem(self, path: Path, what: str, *, at_key: bool = False) -> Problem:
        """Return a problem at a path; what has no place of its own is where the nearest thing around it is."""
        places = self.keys if at_key else self.values
        known = next((path[:length] for length in range(len(path), -1, -1) if path[:length] in places), ())
        line, column = places.get(known, (1, 1))
        return Problem(self.name, line, column, f"{shown(path)}: {what}" if path else what)

    def got(self, path: Path) -> str:
        """Return how the value at a path is written, for messages."""
        value = self.at(path)
        if isinstance(value, dict):
            return "a mapping"
        if isinstance(value, list):
            return "a list" if value else "an empty list"
        written = self.written.get(path, value)
        if written is None:
            return "nothing"
        text = repr(str(written)) if isinstance(written, str) else str(written)
        return text if len(text) <= 80 else f"{text[:79]}…"

    def at(self, path: Path) -> Any:
        """Return the value at a path; None if there is none."""
        value = self.value
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value


def shown(path: Path) -> str:
    """Return a path as `groups.0.labels`."""
    return ".".join(map(str, path))


def read_document(name: str, text: str, environ: Mapping[str, str] | None = None) -> Document:
    """Read YAML 1.2.

    Args:
        name: The file, for messages.
        text: Its content.
        environ: Variables that its texts may name; None to leave texts as they are.

    Raises:
        UnreadableError: The text is not YAML, or a mapping has the same key twice.
    """
    yaml = YAML(typ="rt", pure=True)
    try:
        loaded = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = (error.problem or "cannot be parsed").partition("\n")[0]
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise UnreadableError(Problem(name, line, column, f"expected YAML, got a mistake in it: {what}")) from None
    except (YAMLError, ValueError, RecursionError) as error:
        what = str(error).partition("\n")[0] or type(error).__name__
        raise UnreadableError(Problem(name, 1, 1, f"expected YAML, got a mistake in it: {what}")) from None
    return _Reading(name, environ).read(loaded)


class _Reading:
    """One pass over what the parser made."""

    def __init__(self, name: str, environ: Mapping[str, str] | None) -> None:
        self._environ = environ
        self._document = Document(name)

    def read(self, loaded: Any) -> Document:
        found = self._document
        found.keys[()] = found.values[()] = (1, 1)
        return Document(found.name, self._plain(loaded, ()), found.written, found.keys, found.values, found.problems)

    def _plain(self, value: Any, path: Path) -> Any:
        if len(path) > DEEPEST:
            self._document.problems.append((path, f"expected at most {DEEPEST} levels, got more"))
            return None
        if isinstance(value, CommentedMap):
            return {_named(key): self._plain(each, (*path, _named(key))) for key, each in self._placed_map(value, path)}
        if isinstance(value, CommentedSeq):
            return [self._plain(each, (*path, index)) for index, each in self._placed_list(value, path)]
        self._document.written[path] = value
        return self._scalar(value, path)

    def _scalar(self, value: Any, path: Path) -> Any:
        if isinstance(value, bool) or value is None:
            return value
        for plain in (int, float, str):
            if isinstance(value, plain):
                value = plain(value)  # without what the parser keeps for writing it again
                break
        if not isinstance(value, str) or self._environ is None:
            return value
        try:
            return interpolated(value, self._environ)
        except VariableError as error:
            self._document.problems.append((path, str(error)))
            return None

    def _placed_map(self, value: CommentedMap, path: Path) -> Iterator[tuple[Any, Any]]:
        for key, each in value.items():
            inside = (*path, _named(key))
            if not isinstance(key, str):
                what = f"expected a text as key, got {_named(key)}: write it in quotes"
                self._document.problems.append((inside, what))
            if key in value.lc.data:  # a key that was merged in (`<<`) has no place of its own
                self._document.keys[inside] = _from_one(value.lc.key(key))
                self._document.values[inside] = _from_one(value.lc.value(key))
            yield key, each

    def _placed_list(self, value: CommentedSeq, path: Path) -> Iterator[tuple[int, Any]]:
        for index, each in enumerate(value):
            inside = (*path, index)
            if index in value.lc.data:
                self._document.keys[inside] = self._document.values[inside] = _from_one(value.lc.item(index))
            yield index, each


def _named(key: Any) -> str:
    """Return a key as a text; of one that is no scalar, what it is."""
    return "a mapping" if isinstance(key, Mapping) else "a list" if isinstance(key, tuple) else str(key)


def _from_one(place: tuple[int, int]) -> tuple[int, int]:
    line, column = place
    return line + 1, column + 1
