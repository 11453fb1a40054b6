"""The commands about one thing, as a table: `dispatch NOUN VERB …`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_dispatch.cli.parser import Parser
from pytest_dispatch.core.model import Priority

if TYPE_CHECKING:
    from argparse import Action, Namespace

    from pytest_dispatch.cli.page import Answer
    from pytest_dispatch.client.operator_client import OperatorClient

MOST_SHOWN = 6  # arguments of a command that are listed in its usage too
PRIORITIES = [priority.name.lower() for priority in Priority]


@dataclass(frozen=True, slots=True)
class Argument:
    """An option, or a word that stands in its place.

    Attributes:
        names: `--long`, or the name of the word.
        settings: What argparse takes beside the names.
        completes: What of the lab its values are, for a shell that completes them: `run`, `machine`, `group`.
    """

    names: tuple[str, ...]
    settings: Mapping[str, Any]
    completes: str = ""


def argument(*names: str, completes: str = "", **settings: Any) -> Argument:
    """Return an argument."""
    return Argument(names, settings, completes)


@dataclass(frozen=True, slots=True)
class Verb:
    """One command.

    Attributes:
        name: Its name; empty if it is the only one of its noun.
        gives: Type of the answer's value, as the API gives it; None if it gives none.
        run: Asks the lab.
        watch: Yields answers as things change, each in place of the one before it.
        follow: Yields what comes, each after the one before it.
    """

    name: str
    help: str
    gives: Any
    run: Callable[[OperatorClient, Namespace], Answer]
    arguments: tuple[Argument, ...] = ()
    watch: Callable[[OperatorClient, Namespace], Iterator[Answer]] | None = None
    follow: Callable[[OperatorClient, Namespace], Iterator[Answer]] | None = None


@dataclass(frozen=True, slots=True)
class Noun:
    """The commands about one thing."""

    name: str
    help: str
    verbs: tuple[Verb, ...]


def build_parser(noun: Noun) -> Parser:
    """Return the parser of a noun's commands; what it parses has the command as `verb`."""
    parser = Parser(prog=f"dispatch {noun.name}", description=_sentence(noun.help), allow_abbrev=False)
    fill_parser(parser, noun, lambda _action, _what: None)
    return parser


def fill_parser(parser: Parser, noun: Noun, completes: Callable[[Action, str], None]) -> None:
    """Add a noun's commands to a parser.

    Args:
        parser: The parser.
        noun: The noun.
        completes: Called with each argument whose values the lab knows, and with what they are.
    """
    if not noun.verbs[0].name:
        _fill(parser, noun.verbs[0], completes)
        return
    below = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for verb in noun.verbs:
        made = below.add_parser(verb.name, help=verb.help, description=_sentence(verb.help), allow_abbrev=False)
        _fill(made, verb, completes)


def _fill(parser: Parser, verb: Verb, completes: Callable[[Action, str], None]) -> None:
    parser.set_defaults(verb=verb, watch=False, follow=False)
    if len(verb.arguments) > MOST_SHOWN:  # each of them has its line below
        words = (str(each.settings.get("metavar")) for each in verb.arguments if each.names[0][0] != "-")
        parser.usage = " ".join((parser.prog, "[OPTION …]", *words))
    for each in (*verb.arguments, *_common(verb)):
        action = parser.add_argument(*each.names, **each.settings)
        if each.completes:
            completes(action, each.completes)


def _common(verb: Verb) -> Iterator[Argument]:
    if verb.watch is not None:
        yield argument("--watch", action="store_true", help="show it anew whenever it changes, until Ctrl-C")
    if verb.follow is not None:
        yield argument("--follow", action="store_true", help="go on with what comes, until the end or Ctrl-C")
    yield argument("--json", action="store_true", help="for programs: the lab's answer as JSON")
    yield argument("--lab", metavar="URL", default="", help="the lab (default: DISPATCH_LAB, last `login`, here)")
    yield argument(
        "--token-file", metavar="FILE", default="", help="file with a token (default: DISPATCH_TOKEN, `login`)"
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
