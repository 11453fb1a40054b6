"""`dispatch runs override`, `note` and `link`: what people add to runs that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Verb, argument
from pytest_dispatch.cli.names import ANY_RUN, find_run, short_id
from pytest_dispatch.cli.page import said
from pytest_dispatch.client.connection import MissingError
from pytest_dispatch.client.history_client import HistoryClient
from pytest_dispatch.core.annotations import Note
from pytest_dispatch.core.ended_runs import EndedRun
from pytest_dispatch.core.errors import ConfigError, LabError
from pytest_dispatch.core.known_issues import IssueLink
from pytest_dispatch.core.model import Outcome

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_dispatch.cli.page import Answer
    from pytest_dispatch.client.operator_client import OperatorClient

ORIGINAL = "original"  # in place of an outcome: that which the run ended with
OUTCOMES = [*map(str, Outcome), ORIGINAL]


def _override(client: OperatorClient, given: Namespace) -> Answer:
    history, run, reason = HistoryClient(client.connection), find_run(client, given.run), " ".join(given.reason)
    if given.outcome == ORIGINAL:
        now = history.withdraw(run)
        return said(now, f"{now.name} ({short_id(run)}) counts as {now.outcome}, as it ended")
    if not reason:
        raise ConfigError(f"expected why it counts as {given.outcome}, in words for other people, got none")
    now = history.override(run, Outcome(given.outcome), reason)
    return said(now, f"{now.name} ({short_id(run)}) counts as {now.outcome}, in place of {now.original}: {reason}")


def _note(client: OperatorClient, given: Namespace) -> Answer:
    history, run = HistoryClient(client.connection), find_run(client, given.run)
    if given.delete:
        try:
            history.delete_note(run, given.delete)
        except MissingError:
            known = f"`dispatch runs show {short_id(run)}` lists its notes"
            raise LabError(f"no note {given.delete!r} on {short_id(run)}; {known}") from None
        return said(None, f"note {given.delete} is deleted")
    text = " ".join(given.text)
    if not text:
        raise ConfigError("expected the text of a note, or --delete, got neither")
    note = history.note(run, text)
    return said(note, f"note {note.id} is added to {short_id(run)}")


def _link(client: OperatorClient, given: Namespace) -> Answer:
    history, run = HistoryClient(client.connection), find_run(client, given.run)
    if given.remove:
        try:
            return said(history.unlink(run, given.url), f"{short_id(run)} is linked to {given.url} no more")
        except MissingError:
            known = f"`dispatch runs show {short_id(run)}` lists its issues"
            raise LabError(f"no link of {short_id(run)} to {given.url!r}; {known}") from None
    links = history.link(run, given.url)
    return said(links, f"{short_id(run)} is linked to {given.url}, and so is what fails alike after it")


_OVERRIDE = (
    ANY_RUN,
    argument("outcome", metavar="OUTCOME", choices=OUTCOMES, help=", ".join(OUTCOMES)),
    argument("reason", metavar="REASON", nargs="*", help="why, in words for other people"),
)
_NOTE = (
    ANY_RUN,
    argument("text", metavar="TEXT", nargs="*", help="what other people should know"),
    argument("--delete", metavar="NOTE", default="", help="delete a note, by its id"),
)
_LINK = (
    ANY_RUN,
    argument("url", metavar="URL", help="the issue, on GitHub or anywhere else"),
    argument("--remove", action="store_true", help="take the link from it"),
)

OVERRIDE = Verb("override", "have a run that has ended count otherwise, or as it ended", EndedRun, _override, _OVERRIDE)
NOTE = Verb("note", "add a note to a run that has ended", Note, _note, _NOTE)
LINK = Verb("link", "link a run to a known issue", list[IssueLink], _link, _LINK)
