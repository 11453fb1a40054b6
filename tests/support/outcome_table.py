"""Which fault in which state becomes which verdict, and what the user is told: the table of docs/reliability.md.

`tests/plugin/test_fault_table.py` injects each row into a real session, and looks it up wherever a session tells how it
went. `docs/generate.py` writes the page from the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.workloads.boot.lifecycle import Event, Expect, State

_S, _E = State, Event
ERROR, FAILED, PASSED, SKIPPED = Outcome.ERROR, Outcome.FAILED, Outcome.PASSED, Outcome.SKIPPED

#: What a workload says that has nothing to complain of.
FINE = ({"result": "passed"},)

_NO_BEACON = "; a workload without a beacon needs --dispatch-expect return"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault, and what becomes of it.

    Attributes:
        name: Of the workload that suffers it, without `.efi`.
        what: What goes wrong, for the page.
        state: In which state of the attempt.
        event: What it is to the table in `core/states.py`; None where the reports decide, or the lab itself breaks.
        told: The step that is named. MACHINE and JOURNAL stand for what differs; empty where nothing needs saying.
        session: Rows with the same are workloads of one session.
        act: What its machine does then; see `puppet.ACTS`.
        keys: Of its table in `dispatch.toml`.
        reports: What the workload says.
        large: It has more bytes than a connection holds.
        expect: What the workload promised.
    """

    name: str
    what: str
    state: State
    outcome: Outcome
    event: Event | None = None
    told: str = ""
    session: str = ""
    act: str = "silent"
    keys: Mapping[str, str] = field(default_factory=dict)
    reports: tuple[Mapping[str, object], ...] = FINE
    large: bool = False
    expect: Expect = Expect.REPORT

    @property
    def file(self) -> str:
        return f"{self.name}.efi"

    @property
    def of(self) -> str:
        """The session that it is part of: one of its own, or that of those that end alike."""
        return self.session or {SKIPPED: PASSED}.get(self.outcome, self.outcome).value


#: What happens to a machine, in any state: who is at fault, and how the message names it.
_LOST = ("a machine's driver loses it", "lost", "its power failed")
_PANIC = ("a machine's console shows a fault", "panic", "the kernel panicked")
_WHEN = {
    _S.ASSIGNED: "before the download",
    _S.DOWNLOADING: "during the download",
    _S.DOWNLOADED: "before the boot beacon",
    _S.BOOTING: "after it booted",
}


def _machines() -> Iterator[Row]:
    """A machine breaks: the lab's fault until the workload has booted, and always if its driver lost it."""
    for what, act, fault in (_LOST, _PANIC):
        for state, when in _WHEN.items():
            mine = state is _S.BOOTING and act == "panic"
            yield Row(
                name=f"{act}-{state}",
                what=what,
                state=state,
                event=_E.FAULT,
                outcome=FAILED if mine else ERROR,
                told=f"MACHINE: {fault} {when}",
                session="" if mine else act,
                act=act,
                large=state is _S.DOWNLOADING,
            )
        for said, outcome in (("passed", PASSED), ("failed", FAILED)):
            yield Row(
                name=f"{act}-after-{said}",
                what=f"{what}, after it has reported {said}",
                state=_S.REPORTED,
                event=_E.FAULT,
                outcome=outcome,
                told="" if outcome is PASSED else f"it reported failed: {act}-after-failed.efi",
                act=act,
                reports=({"result": said},),
            )


def _labs() -> Iterator[Row]:
    """The journal breaks in each state: the lab can keep no promise any more."""
    for state in (_S.UNASSIGNED, *_WHEN, _S.REPORTED):
        yield Row(
            name=f"journal-{state}",
            what="the journal can no longer be written",
            state=state,
            outcome=ERROR,
            told="journal JOURNAL: cannot write it",
            act="break-journal",
            session=f"journal {state}",
        )


_STATES = (
    Row(
        name="nobody",
        what="no machine comes",
        state=_S.UNASSIGNED,
        event=_E.TIMEOUT,
        outcome=ERROR,
        told="no machine took it: timed out after 5s in the queue; no machine started or finished anything",
        session="nobody",
        keys={"assign-timeout": "5s"},
    ),
    Row(
        name="dead",
        what="none of the lab's machines can be brought up",
        state=_S.UNASSIGNED,
        event=_E.FAULT,
        outcome=ERROR,
        told="no machine is left: MACHINE: it has no power supply; plug one in",
        session="dead machines",
    ),
    Row(
        name="gone",
        what="the workload's file is deleted after collection",
        state=_S.UNASSIGNED,
        event=_E.FAULT,
        outcome=ERROR,
        told="gone.efi: No such file or directory",
    ),
    Row(
        name="silent-assigned",
        what="a machine asks for it, and goes silent",
        state=_S.ASSIGNED,
        event=_E.TIMEOUT,
        outcome=ERROR,
        told="MACHINE was given it and did not begin to download it within 5s",
        keys={"assign-timeout": "5s"},
    ),
    Row(
        name="silent-downloading",
        what="a machine goes silent during the download",
        state=_S.DOWNLOADING,
        event=_E.TIMEOUT,
        outcome=ERROR,
        told="MACHINE began to download it and took nothing more for 5s",
        keys={"assign-timeout": "5s"},
        large=True,
    ),
    Row(
        name="cut",
        what="a machine's link breaks off ten times",
        state=_S.DOWNLOADING,
        event=_E.FAULT,
        outcome=ERROR,
        told="MACHINE: the link broke off 10 times during the download",
        act="reset",
        large=True,
    ),
    Row(
        name="spoiled",
        what="the workload's file changes while it is being served",
        state=_S.DOWNLOADING,
        event=_E.FAULT,
        outcome=ERROR,
        told="MACHINE: spoiled.efi was changed while in use during the download",
        act="spoil",
        large=True,
    ),
    Row(
        name="silent-downloaded",
        what="it never says that it runs",
        state=_S.DOWNLOADED,
        event=_E.TIMEOUT,
        outcome=ERROR,
        told=f"no boot beacon 0.3s after the last byte was sent to MACHINE{_NO_BEACON}",
        keys={"boot-timeout": "0.3s"},
    ),
    Row(
        name="back-downloaded",
        what="its machine downloads it again and again",
        state=_S.DOWNLOADED,
        event=_E.RETURN,
        outcome=ERROR,
        told="MACHINE never booted it: it downloaded it 3 times and came back each time without a boot beacon"
        + _NO_BEACON,
        act="reset",
    ),
    Row(
        name="unreturned-downloaded",
        what="its machine does not come back, and only that was asked for",
        state=_S.DOWNLOADED,
        event=_E.TIMEOUT,
        outcome=ERROR,
        told="MACHINE did not come back within the 0.2s for booting it and the 0.1s for running it",
        keys={"expect": "return", "boot-timeout": "0.2s", "report-timeout": "0.1s"},
        expect=Expect.RETURN,
    ),
    Row(
        name="silent-booting",
        what="it boots, and never reports",
        state=_S.BOOTING,
        event=_E.TIMEOUT,
        outcome=FAILED,
        told="no report 0.3s after it booted on MACHINE",
        keys={"report-timeout": "0.3s"},
    ),
    Row(
        name="unreturned-booting",
        what="it boots, its machine does not come back, and only that was asked for",
        state=_S.BOOTING,
        event=_E.TIMEOUT,
        outcome=FAILED,
        told="MACHINE did not come back within 0.3s after it booted",
        keys={"expect": "return", "report-timeout": "0.3s"},
        expect=Expect.RETURN,
    ),
    Row(
        name="back-booting",
        what="it boots, and its machine comes back without a report",
        state=_S.BOOTING,
        event=_E.RETURN,
        outcome=FAILED,
        told="MACHINE came back without reporting",
        act="reset",
    ),
    Row(
        name="refused-booting",
        what="what it reports is no report, and its machine comes back",
        state=_S.BOOTING,
        event=_E.RETURN,
        outcome=FAILED,
        told="its report was refused: expected a report",
        act="go-on",
        reports=({"labels": 7},),
    ),
    Row(
        name="refused-reported",
        what="one of its reports is none, whatever the others say",
        state=_S.REPORTED,
        outcome=FAILED,
        told="its report was refused: expected a report",
        act="go-on",
        reports=(*FINE, {"labels": 7}),
    ),
    Row(
        name="wrong-bytes",
        what="GitHub hands out other bytes than the release promises",
        state=_S.UNASSIGNED,
        event=_E.FAULT,
        outcome=ERROR,
        told="wrong-bytes.efi: expected DIGEST, got DIGEST: the asset was changed after the release was listed",
        session="GitHub",
    ),
)

#: Nothing breaks: what the workload says of itself.
_WORDS = (
    Row(
        name="says-failed",
        what="it reports that it failed",
        state=_S.REPORTED,
        event=_E.RETURN,
        outcome=FAILED,
        told="it reported failed: no fan",
        act="go-on",
        reports=({"title": "no fan", "result": "failed"},),
    ),
    Row(
        name="says-by-label",
        what="it reports with a label that means failure",
        state=_S.REPORTED,
        event=_E.RETURN,
        outcome=FAILED,
        told="it reported with the label failure: no fan",
        act="go-on",
        reports=({"title": "all is well", "labels": ["os"]}, {"title": "no fan", "labels": ["failure"]}),
    ),
    Row(
        name="says-by-case",
        what="one of its cases fails",
        state=_S.REPORTED,
        event=_E.RETURN,
        outcome=FAILED,
        told="1 of 2 cases did not pass: fan",
        act="go-on",
        reports=({"cases": [{"name": "cpu", "outcome": "passed"}, {"name": "fan", "outcome": "failed"}]},),
    ),
    Row(
        name="says-error",
        what="it reports that it could not be run",
        state=_S.REPORTED,
        event=_E.RETURN,
        outcome=ERROR,
        told="it reported error: no network",
        act="go-on",
        reports=({"title": "no network", "result": "error"},),
    ),
    Row(
        name="says-skipped",
        what="it reports that it skipped itself",
        state=_S.REPORTED,
        event=_E.RETURN,
        outcome=SKIPPED,
        told="it reported skipped: no such card",
        act="go-on",
        reports=({"title": "no such card", "result": "skipped"},),
    ),
    Row(
        name="says-passed",
        what="nothing goes wrong",
        state=_S.REPORTED,
        event=_E.RETURN,
        outcome=PASSED,
        act="go-on",
    ),
)

ROWS: tuple[Row, ...] = tuple(
    sorted((*_STATES, *_machines(), *_labs(), *_WORDS), key=lambda row: list(State).index(row.state))
)

#: Ends that no row can have within a second, and which tests have them with a clock that can be moved on.
ELSEWHERE = {
    Event.SILENCE: "five minutes without a word: tests/core/test_queue_faults.py",
    Event.CANCEL: "nobody waits for it, so nobody is told: tests/plugin/test_interruption.py",
}


def as_markdown() -> str:
    """The rows for the page."""
    lines = [
        "| while it is | what goes wrong | verdict | the message says |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {row.state} | {row.what} | {row.outcome} | {row.told} |" for row in ROWS]
    return "\n".join(lines)
