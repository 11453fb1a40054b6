"""`dispatch completion`: has a shell complete commands, options, and the names that the lab knows."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Noun, fill_parser
from pytest_dispatch.cli.commands import COMMANDS
from pytest_dispatch.cli.names import short_id
from pytest_dispatch.cli.parser import Parser
from pytest_dispatch.client.connection import NotAllowedError
from pytest_dispatch.core.errors import DispatchError
from pytest_dispatch.core.plain_text import is_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

    from pytest_dispatch.client.operator_client import OperatorClient

SHELLS = ("bash", "zsh", "fish")
DEADLINE = 2.0  # seconds that somebody who has pressed Tab waits for the lab
MOST = 200  # names
ENDED = 20  # runs that have ended


def completion(words: Sequence[str]) -> int:
    """Print what a shell is to run to complete commands."""
    parser = Parser(
        prog="dispatch completion",
        description="Print what makes a shell complete commands, options, and names of the lab.",
        epilog='bash, zsh: eval "$(dispatch completion bash)"; fish: dispatch completion fish | source',
        allow_abbrev=False,
    )
    fill(parser)
    given = parser.parse_args(words)
    from argcomplete.shell_integration import shellcode

    print(shellcode(["dispatch"], shell=given.shell))
    return 0


def fill(parser: Parser) -> None:
    """Add the argument of `dispatch completion` to a parser."""
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def complete() -> None:
    """Answer a shell that completes a line, and end the process."""
    import argcomplete

    argcomplete.autocomplete(_parser(os.environ.get("COMP_LINE", "").split()), always_complete_options="long")


def _parser(typed: Sequence[str]) -> Parser:
    """Return a parser of all commands; of the one that is typed it knows everything."""
    parser = Parser(prog="dispatch", add_help=False)
    below = parser.add_subparsers(parser_class=Parser)
    for name, command in COMMANDS.items():
        made = below.add_parser(name, help=command.help)
        if name in typed and isinstance(noun := command.load(), Noun):
            fill_parser(made, noun, _complete_names)
        elif name in typed:
            command.fill(made)
    return parser


def _complete_names(action: argparse.Action, what: str) -> None:
    action.completer = lambda parsed_args, **_more: _names(what, parsed_args)  # type: ignore[attr-defined]


def _names(what: str, given: argparse.Namespace) -> list[str]:
    """Return names that the lab knows; none if it does not answer."""
    from pytest_dispatch.cli.lab_choice import choose_lab, choose_token
    from pytest_dispatch.client.operator_client import OperatorClient

    try:
        url = choose_lab(given.lab, os.environ)
        token = choose_token(url, given.token_file, os.environ)
        with closing(OperatorClient(url, token.reveal(), DEADLINE)) as client:
            return sorted({name for name in NAMES[what](client) if is_name(name)})[:MOST]
    except DispatchError:
        return []  # nobody who presses Tab is told of errors


def _runs(client: OperatorClient) -> Iterable[str]:
    waiting = client.queue("", 0, MOST).runs
    runs = [(run.id, run.name) for run in client.runs()] + [(run.id, run.name) for run in waiting]
    for run, name in runs:
        yield from (name, short_id(run))


def _any_runs(client: OperatorClient) -> Iterable[str]:
    from pytest_dispatch.client.history_client import HistoryClient

    yield from _runs(client)
    for run in HistoryClient(client.connection).search("", ENDED).runs:
        yield from (run.name, short_id(run.run))


def _users(client: OperatorClient) -> Iterable[str]:
    from pytest_dispatch.client.account_client import AccountClient

    return (user.name for user in AccountClient(client.connection).users())


def _tokens(client: OperatorClient) -> Iterable[str]:
    from pytest_dispatch.client.account_client import AccountClient

    accounts = AccountClient(client.connection)
    try:
        tokens = accounts.tokens(everybody=True)
    except NotAllowedError:
        tokens = accounts.tokens(everybody=False)
    return (token.id for token in tokens if token.revoked is None)


def _machines(client: OperatorClient) -> Iterable[str]:
    from pytest_dispatch.client.machine_client import MachineClient

    return (machine.id for machine in MachineClient(client.connection).all())


def _cycles(client: OperatorClient) -> Iterable[str]:
    from pytest_dispatch.client.cycle_client import CycleClient

    return (cycle.name for cycle in CycleClient(client.connection).all())


def _groups(client: OperatorClient) -> Iterable[str]:
    return (group.id for group in client.groups())


def _templates(client: OperatorClient) -> Iterable[str]:
    return (template.id for group in client.groups() for template in client.templates(group.id))


#: Names of the lab's things, by what an argument completes.
NAMES: dict[str, Callable[[OperatorClient], Iterable[str]]] = {
    "run": _runs,
    "any run": _any_runs,
    "machine": _machines,
    "group": _groups,
    "cycle": _cycles,
    "template": _templates,
    "user": _users,
    "token": _tokens,
}
