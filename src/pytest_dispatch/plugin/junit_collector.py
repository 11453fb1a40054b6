"""Collects pytest's reports of our items for the JUnit file of `--dispatch-junit`."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_dispatch.core.errors import ConfigError, LabError
from pytest_dispatch.core.model import Outcome, Run
from pytest_dispatch.plugin.item_details import ItemDetails
from pytest_dispatch.results.junit_writer import JunitCase, write_junit
from pytest_dispatch.results.run_cases import LATE, OUTCOMES, junit_case
from pytest_dispatch.results.timeline import late_reports

_OPEN = Path("/dev/fd")  # the folder of open files on macOS


class JunitCollector:
    """Collects reports from this process or from pytest-xdist workers."""

    def __init__(self) -> None:
        self._subtests: dict[str, list[JunitCase]] = {}
        self._items: dict[str, JunitCase] = {}

    @staticmethod
    def check(path: Path) -> None:
        """Check that the file can be written, before hours are spent on workloads.

        Raises:
            ConfigError: The file cannot be written.
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

    def add(self, report: pytest.TestReport, rest: ItemDetails) -> None:
        """Add the report of an item's phase or of a sub-test; if a plugin reruns the item, drop its earlier reports."""
        if report.outcome not in OUTCOMES:  # pytest-rerunfailures says "rerun"
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
            self._subtests.setdefault(report.nodeid, []).extend(junit_case(report.nodeid, told) for told in rest.cases)
        before = self._items.get(report.nodeid)
        if before is not None:
            worse = case if case.outcome is not Outcome.PASSED else before
            seconds = before.seconds + case.seconds
            case = replace(worse, seconds=seconds, properties=case.properties or before.properties)
        self._items[report.nodeid] = case

    def write(self, path: Path, runs: Iterable[Run] = (), without_item: Iterable[Run] = ()) -> str:
        """Write the cases of dispatch items, and return a summary line with the path.

        Args:
            path: Path of the file.
            runs: All runs at the end of the session; reports may have come after their items ended.
            without_item: Runs that did not pass and that no item shows.

        Raises:
            LabError: The file cannot be written.
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
    """Refuse a named pipe: opening it may wait forever for a reader. A pipe that is already open works like a file.

    Raises:
        OSError: The path is a named pipe.
    """
    there = path.resolve()  # on Linux, /dev/stdout resolves to a path that does not exist, such as pipe:[1234]
    if there.is_fifo() and there.parent != _OPEN:
        raise OSError(errno.ESPIPE, "it is a named pipe")


def _cannot_write(path: Path, error: OSError) -> str:
    return f"--dispatch-junit: cannot write {path} ({error.strerror}); give another file"


def _case(report: pytest.TestReport, name: str) -> JunitCase:
    outcome = OUTCOMES[report.outcome]
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
