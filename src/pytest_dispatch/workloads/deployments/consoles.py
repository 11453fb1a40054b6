"""What the consoles of jobs show: read where the server has it, and shown once, also across restarts of the lab."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.testflinger.shapes import CANCELLED, COMPLETE, PHASES

if TYPE_CHECKING:
    from pytest_dispatch.testflinger.shapes import Result
    from pytest_dispatch.workloads.deployments.attempts import Deployment, Deployments

PIECES = 1000  # of a console that are read from the journal at once

_KINDS = ("serial", "output")
_WIDEST = 1000  # characters of a line

#: Texts by kind of console and phase, from their beginning on.
_Texts = Mapping[tuple[str, str], str]


class Place(StrEnum):
    """Where a server has what the consoles of jobs under way have shown."""

    UNKNOWN = "unknown"
    RESULT = "result"  # in the results of jobs
    FRAGMENTS = "fragments"  # apart from them
    ONCE = "once"  # an older server gives each line away once


class Consoles:
    """Shows what the consoles of jobs have shown since the last look.

    Today's servers have all of it in the result of a job, which each look asks for anyway. While no job under way has
    had anything there, the logs of one job after another are asked for too: by that, servers are known that have what
    is shown apart, as a later result has nothing of it.

    Args:
        deployments: The attempts in hand.
        interval: Returns the seconds between two looks at a job.
    """

    def __init__(self, deployments: Deployments, interval: Callable[[], float]) -> None:
        self._deployments = deployments
        self._interval = interval
        self._place = Place.UNKNOWN
        self._next = -math.inf  # when logs are asked for next while it is not known where the server has them

    async def read(self, job: str, deployment: Deployment, result: Result) -> None:
        """Show what is new.

        Raises:
            ServiceError: The server does not answer.
            AwayError: The journal cannot be read, which has what an earlier lab has shown.
        """
        await self._recall(deployment)
        over = result.state in COMPLETE or result.state == CANCELLED
        texts = {**_of_kind("serial", result.serial), **_of_kind("output", result.output)}
        if self._place is Place.UNKNOWN and not over:
            self._place = _place_of(deployment, result, texts)
        if self._place is Place.FRAGMENTS:
            texts |= await self._fragments(job) or {}
        elif self._place is Place.UNKNOWN and not over and self._deployments.now() >= self._next:
            self._next = self._deployments.now() + self._interval()
            texts |= await self._ask(job, deployment)
        if self._place is Place.ONCE:
            await self._read_once(job, deployment, over=over)
        else:
            self._show_new(deployment, texts, over=over)

    async def show(self, deployment: Deployment, text: str) -> None:
        """Show a line of the lab's own on the console of a job, unless an earlier lab has."""
        await self._recall(deployment)
        self._show(deployment, text)

    async def _ask(self, job: str, deployment: Deployment) -> _Texts:
        """Return what the logs of a job say that is under way; later results are compared with that."""
        found = await self._fragments(job)
        if found is None:
            self._place = Place.ONCE
        deployment.apart = frozenset(found or ())
        return found or {}

    async def _fragments(self, job: str) -> dict[tuple[str, str], str] | None:
        """Return what the logs of a job say; None if the server does not count fragments."""
        found: dict[tuple[str, str], str] = {}
        for kind in _KINDS:
            logs = await self._deployments.api.logs(job, kind)
            if logs is None:
                return None
            found |= _of_kind(kind, {phase: each.log_data for phase, each in logs.items() if each.log_data})
        return found

    def _show_new(self, deployment: Deployment, texts: _Texts, *, over: bool) -> None:
        for key in ((kind, phase) for phase in PHASES for kind in _KINDS):
            text, begin = texts.get(key, ""), deployment.read.get(key, 0)
            end = len(text) if over else text.rfind("\n") + 1  # the rest of its last line is to come
            if end > begin:
                deployment.read[key] = end
                for line in text[begin:end].removesuffix("\n").split("\n"):
                    self._show(deployment, line)

    async def _read_once(self, job: str, deployment: Deployment, *, over: bool) -> None:
        deployment.shown = Counter()  # what such a server gives was shown by nobody
        for kind in _KINDS:
            text = deployment.partial.get(kind, "") + await self._deployments.api.old_log(job, kind)
            *lines, rest = text.split("\n")
            if over and rest:
                lines, rest = [*lines, rest], ""
            deployment.partial[kind] = rest
            for line in lines:
                self._show(deployment, line)

    def _show(self, deployment: Deployment, text: str) -> None:
        line = plain_line(text, _WIDEST)
        deployment.lines.append(line)
        if deployment.shown and deployment.shown[line]:
            deployment.shown[line] -= 1
        else:
            machine = self._deployments.agents.machine_of(deployment.payload.agent)
            self._deployments.show(machine, line)

    async def _recall(self, deployment: Deployment) -> None:
        """Read which lines an earlier lab has shown of this attempt: they are read again, and not shown again."""
        if deployment.shown is not None:
            return
        history, shown, last = self._deployments.lab_state.journal.history, Counter[str](), 0
        while True:
            pieces = await history.ask(
                lambda reader, after=last: reader.console(deployment.run, deployment.number, after, PIECES)  # type: ignore[misc]
            )
            shown.update(line for piece in pieces for line in piece.text.split("\n"))
            if len(pieces) < PIECES:
                break
            last = pieces[-1].id
        deployment.shown = shown


def _place_of(deployment: Deployment, result: Result, texts: _Texts) -> Place:
    """Return where the server has the consoles of a job under way, as far as its result tells."""
    if any(phase not in result.statuses for _, phase in texts):
        return Place.RESULT
    is_apart = any(key not in texts and key[1] not in result.statuses for key in deployment.apart)
    return Place.FRAGMENTS if is_apart else Place.UNKNOWN


def _of_kind(kind: str, texts: Mapping[str, str]) -> dict[tuple[str, str], str]:
    return {(kind, phase): text for phase, text in texts.items()}
