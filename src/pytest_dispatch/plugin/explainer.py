"""Asks the lab from time to time why workloads wait, and shows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from pytest_dispatch.core.attempts import waits
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.model import Phase, Run

if TYPE_CHECKING:
    from pytest_dispatch.client.lab_client import LabClient
    from pytest_dispatch.core.explanation import Explanation

LOOK = 2.0  # seconds between looks; what begins sooner is not asked about
MOST = 16  # waiting workloads that are asked about in one look: those that are first


class Told(Protocol):
    """Shows explanations to the user."""

    def explained(self, explanation: Explanation) -> None:
        """Keep the latest explanation of a run."""
        ...

    def say(self, text: str, least: int = 1) -> None:
        """Write a line."""
        ...


class Explainer:
    """A thread that looks at the runs of a session that wait. Call `start` once the session is open.

    Args:
        client: The client of the lab.
        runs: Returns the runs of the session, in order.
        told: Shows what is found.
        awaited: Returns the id of the run that pytest waits for; empty if it waits for none.
        each: Whether to say of each workload why it waits, not only of the one that pytest waits for.
    """

    def __init__(
        self,
        client: LabClient,
        runs: Callable[[], Sequence[Run]],
        told: Told,
        awaited: Callable[[], str],
        *,
        each: bool,
    ) -> None:
        self._client = client
        self._runs = runs
        self._told = told
        self._awaited = awaited
        self._each = each
        self._said: dict[str, object] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="dispatch-explainer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking, and wait for a look under way; may be called again. Only the first call waits."""
        waited = self._stopping.is_set()
        self._stopping.set()
        if not waited and self._thread.is_alive():
            self._thread.join(1.0)

    def _work(self) -> None:
        while not self._stopping.wait(LOOK):
            try:
                self._look()
            except LabError:
                continue  # whoever waits for the lab says that it is away

    def _look(self) -> None:
        from pytest_dispatch.core.explanation import Explanation

        for run in list(filter(waits, self._runs()))[:MOST]:
            if self._stopping.is_set():
                return
            explanation = self._client.connection.ask(
                Explanation, "GET", f"/runs/{self._client.current(run.id)}/explanation"
            )
            self._told.explained(explanation)
            if explanation.phase is Phase.QUEUED and (self._each or run.id == self._awaited()):
                self._say(explanation)

    def _say(self, explanation: Explanation) -> None:
        """Write why a run waits, if that is news: other runs that come and go, ahead of it or on machines, are none."""
        from pytest_dispatch.core.explanation import told_why

        why = {(each.kind, "" if each.runs else each.name) for each in explanation.obstacles}
        if self._said.get(explanation.run) == why:
            return
        self._said[explanation.run] = why
        self._told.say(f"⏳ {told_why(explanation, time.time())}", least=0 if self._each else 1)
