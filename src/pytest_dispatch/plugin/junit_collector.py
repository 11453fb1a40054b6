"""Gathers pytest's reports of our items for the JUnit file of `--dispatch-junit`."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_dispatch.core.errors import ConfigError, LabError
from pytest_dispatch.core.model import Outcome, Run
from pytest_dispatch.plugin.items import LATE
from pytest_dispatch.plugin.junit_output import Told, Unprinted
from pytest_dispatch.results.junit_writer import JunitCase, write_junit
from pytest_dispatch.results.timeline import late_reports

_OPEN = Path("/dev/fd")  # where macOS has the files that are open

_OUTCOMES = {"passed": Outcome.PASSED, "failed": Outcome.FAILED, "skipped": Outcome.SKIPPED}


class CaseLog:
    """Takes reports as they come, in this process or from pytest-xdist workers."""

    def __init__(self) -> None:
        self._subtests: dict[str, list[JunitCase]] = {}
        self._items: dict[str, JunitCase] = {}

    @staticmethod
    def check(path: Path) -> None:
        """See whether the file will be writable, before hours are spent.

        Raises:
            ConfigError: It will not.
        """
        try:
            _refuse_pipe(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = not path.exists()
            path.open("ab").close()
            if fresh:
                path.unlink()
        except OSError as error:
            raise ConfigError(_cannot_write(path, error)) from error

    def add(self, report: pytest.TestReport, rest: Unprinted) -> None:
        """A phase of an item, or one of its sub-tests; what another plugin runs again counts from then on."""
        if report.outcome not in _OUTCOMES:  # pytest-rerunfailures says "rerun"
            self._items.pop(report.nodeid, None)
            self._subtests.pop(report.nodeid, None)
            return
        if isinstance(report, pytest.SubtestReport):
            case = _case(report, report.context.msg or "case")
            cases = self._subtests.setdefault(report.nodeid, [])
            cases.append(replace(case, text=rest.text or case.text))
            return
        case = _case(report, report.nodeid.rpartition("::")[2])
        if rest.cases:
            self._subtests.setdefault(report.nodeid, []).extend(_further(report.nodeid, told) for told in rest.cases)
        before = self._items.get(report.nodeid)
        if before is not None:
            worse = case if case.outcome is not Outcome.PASSED else before
            seconds = before.seconds + case.seconds
            case = replace(worse, seconds=seconds, properties=case.properties or before.properties)
        self._items[report.nodeid] = case

    def write(self, path: Path, runs: Iterable[Run] = (), without_item: Iterable[Run] = ()) -> str:
        """Write those of dispatch's items; returns a line that says where.

        Args:
            path: Of the file.
            runs: As they stand at the end: reports may have come when their items were over.
            without_item: Runs that no item shows, and that did not pass.

        Raises:
            LabError: They cannot be written.
        """
        late = {run.key: tuple((LATE, text) for text in late_reports(run)) for run in runs}
        ours = {key: _and_late(case, late.get(key, ())) for key, case in self._items.items() if case.properties}
        ours |= {run.key: _alone(run) for run in without_item}
        cases = [*ours.values(), *(case for key in ours for case in self._subtests.get(key, ()))]
        try:
            _refuse_pipe(path)
            write_junit(path, cases)
        except OSError as error:
            raise LabError(_cannot_write(path, error)) from error
        return f"JUnit file with {len(cases)} cases: {path}"


def _and_late(case: JunitCase, late: tuple[tuple[str, str], ...]) -> JunitCase:
    kept = tuple(fact for fact in case.properties if not late or fact[0] != LATE)
    return replace(case, properties=(*kept, *late))


def _alone(run: Run) -> JunitCase:
    facts = (("dispatch_workload", run.workload.name), ("dispatch_outcome", str(run.outcome)))
    name, outcome = run.key.rpartition("::")[2], run.outcome or Outcome.ERROR
    return JunitCase(group=run.key, name=name, outcome=outcome, seconds=0.0, text=run.reason, properties=facts)


def _refuse_pipe(path: Path) -> None:
    """Refuse a named pipe: to open one waits for a reader, perhaps for ever. One that is open already is as a file.

    Raises:
        OSError: It is one.
    """
    there = path.resolve()  # of /dev/stdout and its like, on Linux, nothing that could be looked at
    if there.is_fifo() and there.parent != _OPEN:
        raise OSError(errno.ESPIPE, "it is a named pipe")


def _cannot_write(path: Path, error: OSError) -> str:
    return f"--dispatch-junit: cannot write {path} ({error.strerror}); give another file"


def _further(group: str, told: Told) -> JunitCase:
    name, outcome, seconds, text = told
    return JunitCase(group=group, name=name or "case", outcome=_OUTCOMES[outcome], seconds=seconds, text=text)


def _case(report: pytest.TestReport, name: str) -> JunitCase:
    outcome = _OUTCOMES[report.outcome]
    if outcome is Outcome.FAILED and report.when != "call":
        outcome = Outcome.ERROR
    facts = tuple((key, str(value)) for key, value in report.user_properties if key.startswith("dispatch_"))
    skipped = report.longrepr
    text = skipped[2] if isinstance(skipped, tuple) else report.longreprtext
    return JunitCase(
        group=report.nodeid,
        name=name,
        outcome=outcome,
        seconds=report.duration,
        text=text,
        properties=facts,
    )
