"""What the fixtures hand to Python tests, as pytest shows it where one of them fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import pytest
from told_runs import NEVER_BOOTED, WELL, attempt, run

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.model import Outcome, Run
from pytest_dispatch.plugin.fixture_objects import DispatchLab, DispatchWorkload
from pytest_dispatch.plugin.lab_session import LabSession
from pytest_dispatch.server.api.schemas import RunRequest, RunView
from pytest_dispatch.sources.base import Listing


@dataclass
class Deaf:
    """A lab that takes what it is asked for, and can be asked nothing more."""

    given: Run
    url: str = "http://127.0.0.1:8080"

    def submit(self, _session: str, _wanted: Sequence[RunRequest]) -> list[RunView]:
        return [RunView(run=self.given, version=1)]

    def close(self) -> None:
        """Nothing to let go of."""


def desk_with(asked: Run) -> LabSession:
    """A desk that has asked for this, and seen nothing since."""
    lab_session = LabSession(
        listing=Listing(name="w", workloads=(asked.workload,)), client=cast("LabClient", Deaf(asked))
    )
    lab_session.submit([RunRequest(key=asked.key, workload=asked.workload)])
    return lab_session


ENDED = run(attempt(outcome=Outcome.FAILED))
RUNNING = replace(run(attempt(history=WELL[:5], outcome=None)), outcome=None)
RETRIED = run(attempt(1, history=NEVER_BOOTED, outcome=Outcome.ERROR), attempt(2, machine="", history=WELL[:1]))
WAITING = replace(RETRIED, outcome=None, attempts=(RETRIED.attempts[0], replace(RETRIED.attempts[1], outcome=None)))


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (ENDED, "<DispatchWorkload snp.efi: failed on 10.0.0.7>"),
        (RUNNING, "<DispatchWorkload snp.efi: booting on 10.0.0.7>"),
        (WAITING, "<DispatchWorkload snp.efi: unassigned>"),
        (run(attempt(machine="\x1b[2Jm\n")), "<DispatchWorkload snp.efi: passed on m>"),
    ],
)
def test_a_workload_says_how_it_was_last_seen_without_asking_the_lab(asked: Run, shown: str) -> None:
    handle = DispatchWorkload("snp.efi", desk_with(asked), asked.key)
    assert repr(handle) == shown


def test_a_lab_says_where_it_is() -> None:
    lab_session = desk_with(ENDED)
    assert repr(DispatchLab(lab_session)) == "<DispatchLab http://127.0.0.1:8080>"
    lab_session.close()
    assert repr(DispatchLab(lab_session)) == "<DispatchLab stopped>"
    assert repr(DispatchWorkload("snp.efi", lab_session, ENDED.key)) == "<DispatchWorkload snp.efi: failed on 10.0.0.7>"
