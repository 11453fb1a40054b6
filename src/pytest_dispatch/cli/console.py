"""`dispatch runs console` and `junit`: what machines and workloads said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Verb, argument
from pytest_dispatch.cli.names import ANY_RUN, find_run
from pytest_dispatch.cli.numbers import number
from pytest_dispatch.cli.page import Answer, Sentence, Tone
from pytest_dispatch.client.history_client import HistoryClient
from pytest_dispatch.server.api.history_schemas import ConsoleView

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from pytest_dispatch.client.operator_client import OperatorClient

WAIT = 20.0  # seconds of one long poll


def _show(client: OperatorClient, given: Namespace) -> Answer:
    pieces = list(_pieces(client, given, wait=0.0))
    whole = ConsoleView(
        run=pieces[-1].run,
        attempt=pieces[-1].attempt,
        lines=tuple(line for piece in pieces for line in piece.lines),
        after=pieces[-1].after,
        complete=pieces[-1].complete,
        gone=pieces[-1].gone,
    )
    aside = "" if whole.lines or whole.gone else "its machine has written nothing"
    return Answer(whole, _page(whole), aside)


def _follow(client: OperatorClient, given: Namespace) -> Iterator[Answer]:
    for piece in _pieces(client, given, wait=WAIT):
        if piece.lines or piece.gone:
            yield Answer(piece, _page(piece))


def _pieces(client: OperatorClient, given: Namespace, wait: float) -> Iterator[ConsoleView]:
    """Yield the parts of a console, to its end, or without a wait to what is there now."""
    history, run = HistoryClient(client.connection), find_run(client, given.run)
    piece = history.console(run, given.attempt, 0, wait)
    yield piece
    while not piece.complete and (wait or piece.lines):
        piece = history.console(run, piece.attempt, piece.after, wait)
        yield piece


def _page(console: ConsoleView) -> tuple[Sentence, ...]:
    if console.gone:
        return (Sentence("dispatch: it was dropped after a while, as `retention.consoles` says", Tone.QUIET),)
    return (Sentence("\n".join(line.text for line in console.lines)),) if console.lines else ()


def _junit(client: OperatorClient, given: Namespace) -> Answer:
    text = HistoryClient(client.connection).junit(find_run(client, given.run))
    return Answer(text, (Sentence(text.rstrip("\n")),))


_ATTEMPT = argument("--attempt", type=number(1), default=0, metavar="N", help="of this attempt (default: the last one)")

CONSOLE = Verb("console", "show what its machine wrote", ConsoleView, _show, (ANY_RUN, _ATTEMPT), follow=_follow)
JUNIT = Verb("junit", "print a run that has ended as a JUnit file", str, _junit, (ANY_RUN,))
