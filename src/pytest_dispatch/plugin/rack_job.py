"""Reads the Testflinger job of a rack's machines from a YAML file, and says by line what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.nearest import did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_dispatch.lab_program.lab_file.document import Document, Problem
    from pytest_dispatch.lab_program.lab_file.document import Path as Place

OPTION = "--dispatch-rack-job"
MACHINE = "{machine}"

_BARE = re.compile(r"(?:^|[\s\[{,:])\{machine\}")  # where YAML takes it for a mapping
_QUOTES = f"'{MACHINE}' in quotes: without, YAML takes it for a mapping"
_TEXTS = "a list of texts"
_PLAIN = (str, int, float, bool, type(None))

_SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "a text": lambda given: isinstance(given, str),
    "a whole number": lambda given: isinstance(given, int) and not isinstance(given, bool),
    _TEXTS: lambda given: isinstance(given, list) and all(isinstance(each, str) for each in given),
    "a mapping": lambda given: isinstance(given, dict),
}
#: What Testflinger takes at these keys, as its schema has them; it refuses anything else in words of its own.
_EXPECTED: Mapping[Place, str] = {
    **dict.fromkeys((("job_queue",), ("name",), ("parent_job_id",), ("job_status_webhook",)), "a text"),
    **dict.fromkeys((("global_timeout",), ("output_timeout",), ("allocation_timeout",)), "a whole number"),
    ("job_priority",): "a whole number",
    **dict.fromkeys((("tags",), ("exclude_agents",)), _TEXTS),
    **dict.fromkeys(((f"{phase}_data",) for phase in ("provision", "firmware_update", "test")), "a mapping"),
    **dict.fromkeys(((f"{phase}_data",) for phase in ("allocate", "reserve")), "a mapping"),
    ("test_data", "test_cmds"): "a text",
    ("reserve_data", "timeout"): "a whole number",
    ("reserve_data", "ssh_keys"): _TEXTS,
}
_KEYS = {"debug", "job_id", *(str(place[0]) for place in _EXPECTED)}


def read_job(path: Path) -> Mapping[str, Any]:
    """Read a job, in which `{machine}` stands for a machine's name.

    Raises:
        ConfigError: It cannot be read, or is no job; names the first line that is wrong.
    """
    try:
        from pytest_dispatch.lab_program.lab_file.document import UnreadableError, read_document
    except ImportError:
        raise ConfigError(
            f"{OPTION}: a job in YAML needs ruamel.yaml, which this Python does not have; install with pip"
            " install 'pytest-dispatch[serve]'"
        ) from None
    text = _text_of(path)
    try:
        document = read_document(str(path), text)
    except UnreadableError as error:
        bare = _BARE.search(_line(text, error.problem.line))
        raise ConfigError(f"{OPTION}: {error}{f'; write a text with {MACHINE} in quotes' if bare else ''}") from None
    for problem in sorted(_problems(document)):
        raise ConfigError(f"{OPTION}: {problem}")
    return {"job_queue": MACHINE, **document.value}


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 at byte {error.start}"
    raise ConfigError(f"{OPTION}: expected a Testflinger job in YAML, got {path}: {why}; name another file") from None


def _line(text: str, number: int) -> str:
    return "".join(text.splitlines()[number - 1 : number])


def _problems(document: Document) -> Iterator[Problem]:
    """Yield everything that is wrong."""
    if not isinstance(document.value, dict):
        yield document.problem((), f"expected a Testflinger job as a mapping, got {document.got(())}")
        return
    yield from (document.problem(place, what, at_key=True) for place, what in document.problems)
    bare = list(_bare(document.value, ()))
    yield from (document.problem(place, f"expected {_QUOTES}") for place in bare)
    yield from _strange(document, document.value, ())
    yield from _keys(document)
    for place, expected in _EXPECTED.items():
        if not any(each[: len(place)] == place for each in bare):  # those are told
            yield from _shape(document, place, expected)
    yield from _queue(document)


def _keys(document: Document) -> Iterator[Problem]:
    """Yield keys that are like one that a job has, or that what is to be deployed is missing."""
    meant = {key: asked for key in document.value.keys() - _KEYS if (asked := did_you_mean(key, _KEYS))}
    for key, asked in meant.items():
        yield document.problem((key,), f"expected a key of a Testflinger job: {asked}", at_key=True)
    if not document.at(("provision_data",)) and not meant:
        what = "expected what is to be deployed, such as distro: noble, got nothing"
        yield document.problem(("provision_data",), what)


def _shape(document: Document, place: Place, expected: str) -> Iterator[Problem]:
    """Yield that something else stands at a place than Testflinger expects there."""
    given = document.at(place)
    if given is None or _SHAPES[expected](given):
        return
    if isinstance(given, list) and expected == _TEXTS:
        first = next(index for index, each in enumerate(given) if not isinstance(each, str))
        place, expected = (*place, first), "a text"
    yield document.problem(place, f"expected {expected}, got {document.got(place)}")


def _bare(value: Any, place: Place) -> Iterator[Place]:
    """Yield where `{machine}` stands without quotes."""
    if value == {"machine": None}:
        yield place
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _bare(each, (*place, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _bare(each, (*place, index))


def _strange(document: Document, value: Any, place: Place) -> Iterator[Problem]:
    """Yield what JSON, in which jobs are submitted, has no values for: dates, and what has a tag."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _strange(document, each, (*place, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _strange(document, each, (*place, index))
    elif not isinstance(value, _PLAIN):
        yield document.problem(place, f"expected a text or a number, got {document.got(place)}: write it in quotes")


def _queue(document: Document) -> Iterator[Problem]:
    """Refuse one queue for all machines: any agent that serves it would take a job, and be taken for its machine."""
    given = document.at(("job_queue",))
    if isinstance(given, str) and MACHINE not in given:
        what = f"expected a queue of each machine's own, with '{MACHINE}' in it, got {document.got(('job_queue',))}"
        yield document.problem(("job_queue",), f"{what}; leave it out for the queue of the machine's name")
