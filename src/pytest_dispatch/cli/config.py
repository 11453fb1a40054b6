"""`dispatch config`: checks a lab's configuration file, shows its JSON Schema, makes one from another program's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.lab_program.lab_file.missing_packages import require_serve

if TYPE_CHECKING:
    from pytest_dispatch.cli.parser import Parser


def config(words: list[str]) -> int:
    """Run `dispatch config COMMAND`, and return the exit code.

    Raises:
        ConfigError: The command is unknown, or the file that it names cannot be used.
    """
    name, *files = words or ["--help"]
    if {"-h", "--help"} & {name, *files}:
        print(_usage())
        return 0
    known = _COMMANDS.get(name)
    if known is None:
        raise ConfigError(f"config: expected one of {', '.join(_COMMANDS)}, got {name!r}; see `dispatch config --help`")
    if len(files) != len(known.arguments):
        expected = " ".join(("dispatch config", name, *known.arguments))
        raise ConfigError(f"config {name}: expected {expected}, got {len(files)} arguments")
    require_serve()
    known.run(*files)
    return 0


def fill(parser: Parser) -> None:
    """Add the commands of `dispatch config` to a parser."""
    below = parser.add_subparsers()
    for name, command in _COMMANDS.items():
        made = below.add_parser(name, help=command.help)
        for each in command.arguments:
            made.add_argument(each.lower())


def _usage() -> str:
    rows = (" ".join((f"  {name}", *each.arguments)).ljust(18) + each.help for name, each in _COMMANDS.items())
    return "\n".join(("usage: dispatch config COMMAND …", "", *rows))


def _check(file: str) -> None:
    from pytest_dispatch.lab_program.lab_file.reading import read_lab_file

    found = read_lab_file(Path(file), os.environ)
    for url in found.left_out:
        print(f"dispatch: {url} is not checked: it is fetched when a lab starts")
    for kind in found.unknown_kinds:
        print(f"dispatch: templates of the kind {kind!r} are not checked: {_installed()}")
    content = found.content
    counts = (
        (len(content.machines), "machine"),
        (len(content.groups), "group"),
        (len(found.templates), "template"),
        (len(content.auth.users), "user"),
    )
    found_there = ", ".join(f"{count} {what}{'s' * (count != 1)}" for count, what in counts)
    print(f"dispatch: {file} is right: {found_there}")


def _installed() -> str:
    from pytest_dispatch.workloads.registry import known_kinds

    names = ", ".join(known_kinds())
    return f"installed here is {names}; a lab starts without it, and refuses to queue them"


def _schema() -> None:
    from pytest_dispatch.lab_program.lab_file.json_schema import schema_text

    print(schema_text())


def _import(file: str) -> None:
    from pytest_dispatch.lab_program.lab_file.dispatchoor import import_dispatchoor

    made = import_dispatchoor(Path(file))
    print(made.text, end="")
    for line in made.left_out:
        print(f"dispatch: {line}", file=sys.stderr)


class _Command(NamedTuple):
    arguments: tuple[str, ...]
    help: str
    run: Callable[..., None]


_COMMANDS = {
    "check": _Command(("FILE",), "name everything that is wrong in a lab's configuration file", _check),
    "schema": _Command((), "print the JSON Schema of such files", _schema),
    "import": _Command(("FILE",), "print such a file, made from a configuration of dispatchoor", _import),
}
