"""A client of a lab for what people do with it: its queues, runs, groups, templates and machines."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_dispatch.client.connection import TIMEOUT, LabConnection
from pytest_dispatch.core.explanation import Explanation
from pytest_dispatch.server.api.group_schemas import (
    AgainWanted,
    GroupView,
    HoldWanted,
    LabHold,
    LabMachine,
    MoveWanted,
    QueuedRun,
    QueueView,
    QueueWanted,
    RunChanged,
    TemplateView,
)
from pytest_dispatch.server.api.lab_schemas import LabRun, LabSnapshot, Left
from pytest_dispatch.server.api.schemas import RunView
from pytest_dispatch.server.api.session_schemas import LabView
from pytest_dispatch.support.codec import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

LabEvent = LabSnapshot | LabRun | GroupView | LabMachine | LabHold | Left

#: The events of a lab that say how it stands, by name.
EVENTS: dict[str, type[LabEvent]] = {
    "snapshot": LabSnapshot,
    "run": LabRun,
    "group": GroupView,
    "machine": LabMachine,
    "hold": LabHold,
    "left": Left,
}


class OperatorClient:
    """A client of one lab. Every method raises `LabError` if the lab cannot be reached, or refuses.

    Args:
        url: `http://HOST:PORT` of the lab's API.
        token: A token of the lab.
        timeout: Seconds for an answer.

    Attributes:
        connection: Its connections.
    """

    def __init__(self, url: str, token: str, timeout: float = TIMEOUT) -> None:
        self.url = url
        self.connection = LabConnection(url, token, epoch=0, timeout=timeout)

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()

    # The lab

    def lab(self) -> LabView:
        """Return what the lab is, and what it speaks."""
        return self.connection.ask(LabView, "GET", "/lab")

    @contextmanager
    def events(self) -> Iterator[Iterator[LabEvent]]:
        """Follow what changes in the lab; a snapshot comes first, and again after a gap."""
        with self.connection.events("/events", 0) as stream:
            yield (decode(event.data, EVENTS[event.name]) for event in stream if event.name in EVENTS)

    def snapshot(self) -> LabSnapshot:
        """Return the lab as it is now.

        Raises:
            LabError: The lab ended before it sent it.
        """
        with self.events() as events:
            for event in events:
                if isinstance(event, LabSnapshot):
                    return event
        from pytest_dispatch.client.unreachable_lab import UnreachableError

        raise UnreachableError(f"the lab at {self.url} cannot be reached: it is ending")

    def hold_lab(self, hold: HoldWanted) -> LabHold:
        """Have no more runs begin anywhere."""
        return self.connection.ask(LabHold, "POST", "/hold", hold)

    def release_lab(self) -> LabHold:
        """Have runs begin again."""
        return self.connection.ask(LabHold, "DELETE", "/hold")

    # Groups and templates

    def groups(self) -> list[GroupView]:
        """Return all groups."""
        return self.connection.ask(list[GroupView], "GET", "/groups")

    def pause(self, group: str, hold: HoldWanted) -> GroupView:
        """Pause a group."""
        return self.connection.ask(GroupView, "POST", f"/groups/{_part(group)}/hold", hold)

    def resume(self, group: str) -> GroupView:
        """Resume a group."""
        return self.connection.ask(GroupView, "DELETE", f"/groups/{_part(group)}/hold")

    def templates(self, group: str) -> list[TemplateView]:
        """Return the templates of a group."""
        return self.connection.ask(list[TemplateView], "GET", f"/groups/{_part(group)}/templates")

    # Queues and runs

    def queue(self, group: str, first: int, most: int) -> QueueView:
        """Return a page of what waits, in one group or in all of them."""
        query = {"first": str(first), "most": str(most)} | ({"group": group} if group else {})
        return self.connection.ask(QueueView, "GET", "/queue", query=query)

    def enqueue(self, group: str, wanted: QueueWanted) -> QueuedRun:
        """Queue a run for a person."""
        return self.connection.ask(QueuedRun, "POST", f"/groups/{_part(group)}/queue", wanted)

    def runs(self, named: str = "") -> list[LabRun]:
        """Return the runs that are under way, or those that a text may name."""
        return self.connection.ask(list[LabRun], "GET", "/runs", query={"named": named} if named else None)

    def run(self, run: str, after: int = -1, wait: float = 0.0) -> RunView:
        """Return a run; with `wait`, once it has changed past version `after`, or when these seconds are over."""
        query = {"after": str(after), "wait": f"{wait:g}"} if wait else None
        return self.connection.ask(RunView, "GET", f"/runs/{_part(run)}", query=query, wait=wait)

    def explanation(self, run: str) -> Explanation:
        """Return why a run waits, and when it starts."""
        return self.connection.ask(Explanation, "GET", f"/runs/{_part(run)}/explanation")

    def move(self, run: str, to: MoveWanted) -> QueuedRun:
        """Move a run within the queue of its group."""
        return self.connection.ask(QueuedRun, "POST", f"/runs/{_part(run)}/move", to)

    def hold_run(self, run: str, hold: HoldWanted) -> QueuedRun:
        """Keep a run from machines."""
        return self.connection.ask(QueuedRun, "POST", f"/runs/{_part(run)}/hold", hold)

    def release_run(self, run: str) -> QueuedRun:
        """End the hold of a run."""
        return self.connection.ask(QueuedRun, "DELETE", f"/runs/{_part(run)}/hold")

    def change(self, run: str, change: RunChanged) -> QueuedRun:
        """Change the priority of a run, or how often it is queued again."""
        return self.connection.ask(QueuedRun, "PATCH", f"/runs/{_part(run)}", change)

    def again(self, run: str, wanted: AgainWanted) -> QueuedRun:
        """Queue the workload of a run once more."""
        return self.connection.ask(QueuedRun, "POST", f"/runs/{_part(run)}/again", wanted)

    def cancel(self, run: str) -> None:
        """Cancel a run."""
        self.connection.call("DELETE", f"/runs/{_part(run)}")


def _part(name: str) -> str:
    return quote(name, "")
