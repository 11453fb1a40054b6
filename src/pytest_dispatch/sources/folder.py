"""A folder as a source of workloads: its `*.efi`, `*.iso` and `*.img`, or what its `dispatch.toml` lists.

Nothing is read but names, sizes and `dispatch.toml`: listing a folder of large images costs nothing.
"""

from __future__ import annotations

import errno
import os
import stat
import tomllib
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.duration import parse_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.media import BOOT, BootPayload, Expect, kind_by_suffix, known
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.plain_text import LONGEST_NAME, is_name, plain_line
from pytest_dispatch.core.requirements import Requirements, read_requirements
from pytest_dispatch.sources.base import EmptySourceError, Listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from enum import StrEnum

MANIFEST = "dispatch.toml"
LARGEST = 4 * 2**20  # most bytes of a manifest
DOTS = 200  # most dots in a line of it: the time to parse a dotted key grows with the square of its parts

#: Errors for a missing file, and for a link that leads nowhere or in a circle.
_NOTHING_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}

#: Names of what may be found in place of a file, except devices.
_SPECIAL = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}

_NO_FILE = "expected a file, got a folder, something special, or a link that leads nowhere"
_UNLISTED = f"{MANIFEST} does not list it: add a [[workload]] table with its name"


def list_folder(path: Path, shown_as: str) -> Listing:
    """List a folder's workloads, by name; those of a chain together, in the order of the manifest.

    Without a `dispatch.toml` these are its files that end in `.efi`, `.iso` or `.img` (in any case), but
    not hidden ones; with one, they are what it lists. Symbolic links are followed within the folder. A link that leads
    out of it is refused, because its creator could otherwise choose any file of this computer to be served.

    Args:
        path: The folder.
        shown_as: The folder as the user gave it: the listing's name, and the beginning of messages.

    Raises:
        EmptySourceError: Nothing in it can boot.
        ConfigError: There is no such folder, or its `dispatch.toml` has values that cannot be used.
    """
    try:
        if not path.is_dir():
            raise ConfigError(_no_folder(path, shown_as))
        folder = Path(os.path.realpath(path))  # so that links are resolved once, and may not lead elsewhere later
        named = _named_as_workloads(folder)
        by_manifest = (folder / MANIFEST).exists()
        listed = _manifest(folder, shown_as) if by_manifest else _files(folder, shown_as, named)
        left_out = _left_out(folder, named, listed, _UNLISTED if by_manifest else _NO_FILE)
    except OSError as error:
        raise ConfigError(f"{shown_as}: cannot be read: {error.strerror}: {error.filename}") from error
    return Listing(name=shown_as, workloads=tuple(_in_order(listed)), left_out=left_out)


def _in_order(listed: Iterable[Workload]) -> list[Workload]:
    """Return workloads by name; those of a chain stay in their order, at the place of the first of them."""
    heads: dict[str, str] = {}
    keyed = [
        ((heads.setdefault(each.chain, each.name) if each.chain else each.name), place, each)
        for place, each in enumerate(listed)
    ]
    return [workload for *_, workload in sorted(keyed, key=lambda entry: entry[:2])]


def _no_folder(path: Path, shown_as: str) -> str:
    there = plain_line(str(path.absolute()), LONGEST_NAME)
    told = f"--dispatch-dir: expected a folder with workloads, got {_shown(shown_as)}"
    if path.exists():
        return f"{told}: {there} is a file; name the folder that it is in"
    return f"{told}: there is nothing at {there}; name a folder that exists"


def _named_as_workloads(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries that are named like workloads and not hidden."""
    with os.scandir(folder) as entries:  # tells files apart without a system call for each
        return [each for each in entries if kind_by_suffix(_suffix(each.name)) and not each.name.startswith(".")]


def _files(folder: Path, shown_as: str, named: Iterable[os.DirEntry[str]]) -> list[Workload]:
    found = []
    files = [(entry.name, kind_by_suffix(_suffix(entry.name))) for entry in named if _is_file(entry)]
    for name, kind in files:
        if kind is not None:
            with _at(f"{shown_as}: {name!r}"):
                found.append(_workload(folder, _path(name), kind, {}))
    if not found:
        expected = ", ".join(f"*{media.suffix}" for media in known().values())
        raise EmptySourceError(f"{shown_as}: no workload in this folder: expected {expected}, or a {MANIFEST}")
    return found


def _left_out(
    folder: Path, named: Iterable[os.DirEntry[str]], listed: Iterable[Workload], why: str
) -> tuple[tuple[str, str], ...]:
    """Return the names of entries that are named like workloads but are not among them, and why."""
    taken = {workload.payload["location"] for workload in listed}
    names = sorted(entry.name for entry in named if f"{folder}/{entry.name}" not in taken)
    return tuple((plain_line(name, LONGEST_NAME), why) for name in names)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry leads to a file; False for a link that leads nowhere or in a circle."""
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise
        return False


def _manifest(folder: Path, shown_as: str) -> list[Workload]:
    with _at(f"{shown_as}/{MANIFEST}"):
        tables = _tables(folder, folder / MANIFEST)
        workloads = []
        for number, table in enumerate(tables, start=1):
            with _at(f"workload {number}"):
                workloads.append(_from_table(folder, table))
        _refuse_duplicates(workloads)
        return workloads


def _tables(folder: Path, path: Path) -> list[Any]:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for its writer
        raise ConfigError(f"expected a file, got {_SPECIAL.get(stat.S_IFMT(status.st_mode), 'a device')}")
    _followed(folder, str(path))
    if (size := status.st_size) > LARGEST:
        raise ConfigError(f"expected at most {LARGEST} bytes, got {size}")
    try:
        text = path.read_bytes().decode()
        _refuse_dots(text)
        document = tomllib.loads(text)
        repr(document)  # raises an error for a document nested too deep to be shown in a message
    except UnicodeDecodeError as error:
        raise ConfigError(f"expected UTF-8 text, byte {error.start} is not") from error
    except RecursionError as error:
        raise ConfigError("expected TOML with fewer tables within tables") from error
    except ValueError as error:  # also a number with more digits than Python accepts
        raise ConfigError(f"expected TOML: {plain_line(str(error))}") from error
    _refuse_unknown(document, ["workload"])
    tables = document.get("workload", [])
    if not isinstance(tables, list) or not tables:
        raise ConfigError(f"expected at least one [[workload]] table, got {_shown(tables)}")
    return tables


def _refuse_dots(text: str) -> None:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") > DOTS and not line.lstrip().startswith("#"):
            raise ConfigError(f"line {number}: expected at most {DOTS} dots, got {line.count('.')}")


def _from_table(folder: Path, table: object) -> Workload:
    if not isinstance(table, dict):
        raise ConfigError(f"expected a table, got {_shown(table)}")
    _refuse_unknown(table, _KEYS)
    read: dict[str, Any] = {}
    for key, reader in _KEYS.items():
        if key in table:
            with _at(key):
                read[key] = reader(table[key])
    if "name" not in read and "file" not in read:
        raise ConfigError("name: expected the name of a file in this folder, got nothing")
    file = read.pop("file", None) or PurePosixPath(read["name"])
    kind = read.pop("type", None) or kind_by_suffix(file.suffix)
    if kind is None:
        raise ConfigError(f"type: expected {_listed(known())}, since {str(file)!r} does not tell, got nothing")
    with _at("file"):
        return _workload(folder, file, kind, read)


def _workload(folder: Path, file: PurePosixPath, media: str, read: dict[str, Any]) -> Workload:
    path = f"{folder}/{file}"
    try:
        status = os.stat(path)  # noqa: PTH116 - there may be ten thousand files, and a Path costs more than the call
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"expected a file in this folder, found none named {str(file)!r}")
    if not status.st_size:
        raise ConfigError(f"expected something that boots, {str(file)!r} is empty")
    location = _followed(folder, path) if len(file.parts) > 1 or os.path.islink(path) else path  # noqa: PTH114 - as above
    payload = BootPayload(media=media, location=location, size=status.st_size)
    limits = {name: read.pop(key) for key, name in _LIMITS.items() if key in read}
    return Workload(**{"name": str(file), **read}, kind=BOOT, payload=payload.as_json(), limits=limits)


def _followed(folder: Path, path: str) -> str:
    """Return the real path of a path, with all links resolved.

    Raises:
        ConfigError: It leads out of the folder.
    """
    real, root = os.path.realpath(path), os.path.realpath(folder)
    if os.path.commonpath((real, root)) != root:
        there = plain_line(real, LONGEST_NAME)
        raise ConfigError(
            f"expected a file in this folder, got a link that leads out of it, to {there!r}; put the file itself here"
        )
    return real


def _suffix(name: str) -> str:
    """Return the same as `Path.suffix`."""
    stem, dot, last = name.rpartition(".")
    return f"{dot}{last}" if stem else ""


def _refuse_duplicates(workloads: Iterable[Workload]) -> None:
    numbered = sorted((workload.name, number) for number, workload in enumerate(workloads, start=1))
    for (name, first), (other, second) in pairwise(numbered):
        if name == other:
            raise ConfigError(f"workload {second}: name: {name!r} is the name of workload {first} too")


def _refuse_unknown(table: dict[str, Any], known: Iterable[str]) -> None:
    for key in table:
        if key not in known:
            raise ConfigError(f"unknown key {_shown(key)}, expected {_listed(known)}")


def _text(value: object) -> str:
    if isinstance(value, str) and len(value) > LONGEST_NAME:
        raise ConfigError(f"expected at most {LONGEST_NAME} characters, got {len(value)}")
    if not isinstance(value, str) or not is_name(value):
        raise ConfigError(f"expected printable text, got {_shown(value)}")
    return value


def _name(value: object) -> str:
    name = _text(value)
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise ConfigError(f"expected a name that does not lead out of this folder, got {name!r}")
    return name


def _path(value: object) -> PurePosixPath:
    return PurePosixPath(_name(value))


def _labels(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f'expected a list of labels such as ["smoke"], got {_shown(value)}')
    return tuple(_text(label) for label in value)


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f'expected a list of names of workloads such as ["install"], got {_shown(value)}')
    return tuple(_text(name) for name in value)


def _seconds(value: object) -> float:
    if not isinstance(value, str):
        raise ConfigError(f"expected a duration such as 30s, 5m or 1h, got {_shown(value)}")
    seconds = parse_duration(value)
    if not seconds:
        raise ConfigError(f"expected a duration longer than 0, got {value!r}")
    return seconds


def _one_of(choices: type[StrEnum] | tuple[str, ...]) -> Callable[[object], str]:
    known = {str(choice): choice for choice in choices}

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in known:
            raise ConfigError(f"expected {_listed(known)}, got {_shown(value)}")
        return known[value]

    return read


def _requires(value: object) -> Requirements:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f'expected a list of requirements such as ["arch=x86_64", "gpu"], got {_shown(value)}')
    return read_requirements(value, "")


def _kind(value: object) -> str:
    return _one_of(tuple(known()))(value)


#: The keys of a [[workload]] table, and how each is read.
_KEYS: dict[str, Callable[[object], Any]] = {
    "name": _name,
    "file": _path,
    "type": _kind,
    "labels": _labels,
    "expect": _one_of(Expect),
    "assign-timeout": _seconds,
    "boot-timeout": _seconds,
    "report-timeout": _seconds,
    "requires": _requires,
    "chain": _text,
    "after": _names,
    "group": _text,
}
#: The keys among them that are limits of a workload, and the limits' names.
_LIMITS = {"assign-timeout": "assign", "boot-timeout": "boot", "report-timeout": "report"}


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Prefix a ConfigError that passes through with its place."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error.__cause__
