"""Workloads as test items: setup waits for the boot, call for the report, teardown for the machine's release."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

import pytest

from pytest_dispatch.core.media import mark_of
from pytest_dispatch.core.model import BAD, Attempt, Case, Outcome, Report, Workload
from pytest_dispatch.core.plain_text import node_name
from pytest_dispatch.plugin.item_details import (
    FURTHER,
    PRINTED,
    SUBTESTS,
    ItemDetails,
    attach,
    beginning,
    is_quiet,
)
from pytest_dispatch.plugin.lab_session import LAB_SESSION, LabSession, has_booted, names
from pytest_dispatch.plugin.marks import marks_of, wanted_by
from pytest_dispatch.plugin.outcomes import LabFault, WorkloadFailed, never_booted, raise_outcome
from pytest_dispatch.plugin.prerequisites import with_prerequisites
from pytest_dispatch.results.run_cases import Told, facts_of, told_case

if TYPE_CHECKING:
    from pytest_dispatch.server.api.schemas import RunView

_STORY = "dispatch_story"  # of a report whose text tells how a run went


#: pytest's own plugins that parametrize: by marks, which workloads do not have, and by fixtures.
_GIVE_ALL_THE_SAME = {"python", "funcmanage"}


@dataclass(slots=True)
class _Cases:
    """The cases of a workload that its item has shown.

    Attributes:
        subtests: Number of cases shown as sub-tests.
        failed: Number of sub-tests that failed.
        further: Cases beyond the limit of sub-tests.
        shown: The case that is being shown now.
    """

    subtests: int = 0
    failed: int = 0
    further: list[Told] = field(default_factory=list)
    shown: Told | None = None


class DispatchItem(pytest.Function):
    """One workload as a pytest item."""

    workload: Workload
    cases: _Cases
    seen_to_the_end: bool = False

    def setup(self) -> None:
        """Set the fixtures up, then wait until the workload runs."""
        super().setup()
        lab_session = lab_session_of(self)
        if lab_session.client is None:
            return  # --setup-plan
        ask_for(lab_session, self, self.workload)
        view = lab_session.wait(self.nodeid, has_booted)
        if never_booted(view.run):
            raise_outcome(lab_session.settled(self.nodeid))

    def runtest(self) -> None:
        """Call the test body; fail unless the body has seen the workload's outcome.

        Raises:
            LabFault: The body ended early, for example when a debugger quit, or was never called.
        """
        self.seen_to_the_end = False
        super().runtest()
        if not self.seen_to_the_end:
            raise LabFault("its test ended before the workload had an outcome: a debugger or another plugin ended it")

    def teardown(self) -> None:
        """Wait for the end of the run, or cancel it, and add its facts to the item's reports."""
        try:
            view = lab_session_of(self).leave(self.nodeid)
            if view is not None:
                note_facts(self, view)
        finally:
            super().teardown()

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return the item's location, and the title that pytest shows above a failure."""
        # the title must not be a suffix of the node id: pytest would take it for a Python name and replace its dots
        source = lab_session_of(self).listing.part_of(self.workload)
        return self.config.rootpath / source, 0, f"{source}: {self.name}"


def dispatch(request: pytest.FixtureRequest, subtests: pytest.Subtests) -> None:
    """Run as the test body of every item."""
    _call(request.node, subtests)


class DispatchCollector(pytest.Module):
    """The workloads of one source, or of one group of it, collected as the test functions of a module.

    So fixtures of all scopes, parameters, and plugins that use an item's module or repeat tests work as with every
    other test.
    """

    _alike = False  # whether every workload is known to become exactly one item

    @classmethod
    def of(cls, session: pytest.Session, name: str) -> DispatchCollector:
        """Return the collector of those workloads of the session's source whose node ids begin with a name."""
        path = session.config.rootpath  # decides which conftest.py files apply; a release has no path of its own
        collector: DispatchCollector = cls.from_parent(session, path=path, name=name, nodeid=name)
        module = ModuleType(name, cls.__doc__)
        module.__file__ = str(path / name)
        collector.obj = module
        return collector

    def istestfunction(self, obj: object, name: str) -> bool:  # noqa: ARG002 - pytest's signature
        """Return whether `obj` is the body of our items, regardless of the ini file's patterns for test names."""
        return obj is dispatch

    def collect(self) -> Iterable[pytest.Item]:
        """Return an item for each workload selected on the command line, and for each of its parameter sets.

        Raises:
            pytest.Collector.CollectError: The command line names a parameter set that does not exist, or another
                plugin creates items of its own.
        """
        lab_session = lab_session_of(self)
        own = [each for each in lab_session.listing.parts[self.name] if lab_session.wants(each)]
        items = [item for workload in own for item in self._items(workload)]
        if lab_session.wanted is None:
            return items
        chosen = [item for item in items if lab_session.wanted & {item.workload.name, item.originalname, item.name}]
        found = {name for item in chosen for name in (item.workload.name, item.originalname, item.name)}
        for name in sorted(name for name in lab_session.wanted - found if any(names(name, each) for each in own)):
            raise self.CollectError(f"not found: {self.nodeid}::{name} (it has: {', '.join(i.name for i in items)})")
        return chosen

    def _items(self, workload: Workload) -> list[DispatchItem]:
        """Let pytest make items from a workload as from any function, with parameters from plugins and fixtures.

        If the first workload became one item, and no plugin parametrizes by name, the other workloads skip pytest's
        hook, which halves the cost.
        """
        name = node_name(workload.name)
        setattr(self.obj, name, dispatch)
        if self._alike:
            return [self._own(DispatchItem.from_parent(self, name=name, callobj=dispatch), workload)]
        made = self.ihook.pytest_pycollect_makeitem(collector=self, name=name, obj=dispatch) or ()
        items = [self._own(self._taken(item, workload), workload) for item in made]
        self._alike = len(items) == 1 and not hasattr(items[0], "callspec") and self._gives_all_the_same()
        return items

    def _gives_all_the_same(self) -> bool:
        """Return whether only fixtures can add parameters; these are the same for all items of a module."""
        hooks = self.ihook.pytest_generate_tests.get_hookimpls()
        return {hook.plugin_name for hook in hooks} <= _GIVE_ALL_THE_SAME

    def _taken(self, made: pytest.Item, workload: Workload) -> DispatchItem:
        if type(made) is not pytest.Function:
            raise self.CollectError(f"{workload.name}: expected an item of pytest's own, got another plugin's {made!r}")
        made.__class__ = DispatchItem  # pytest has no way to choose the class
        return cast("DispatchItem", made)

    def _own(self, item: DispatchItem, workload: Workload) -> DispatchItem:
        item.workload, item.cases = workload, _Cases()
        for name in (f"dispatch_{mark_of(workload)}", *marks_of(workload, lab_session_of(self).listing)):
            item.add_marker(name)
        item.extra_keyword_matches.update({workload.name, *workload.labels})
        return item


def lab_session_of(node: pytest.Item | pytest.Collector) -> LabSession:
    """Return the running session."""
    return node.config.stash[LAB_SESSION]


def _call(item: DispatchItem, subtests: pytest.Subtests) -> None:
    """Show the workload's cases as they come in, then its outcome.

    Bad cases are shown last: a verdict hook or a further attempt may still make the run pass, and pytest fails every
    item that has a failed sub-test.
    """
    lab_session, seen, bad = lab_session_of(item), dict[int, int](), list[Case]()
    item.cases = _Cases()
    while True:
        view = lab_session.wait(item.nodeid, _news_since(sum(seen.values())))
        for case in _fresh(view, seen):
            if case.outcome in BAD:
                bad.append(case)
            else:
                _show(item, subtests, case)
        if view.run.outcome is not None:
            break
    with suppress(WorkloadFailed):  # with -x a failed sub-test would end the item before its outcome is shown
        for case in bad:
            _show(item, subtests, case, view.run.outcome)
    if view.run.outcome is not Outcome.PASSED:
        raise_outcome(lab_session.settled(item.nodeid))
    item.seen_to_the_end = True


def _news_since(seen: int) -> Callable[[RunView], bool]:
    """Return a condition: more than `seen` reports have come, or the run is over."""
    return lambda view: view.run.outcome is not None or sum(len(_in_time(a)) for a in view.run.attempts) > seen


def _fresh(view: RunView, seen: dict[int, int]) -> Iterator[Case]:
    """Yield the cases of new reports, and update `seen`, the number of known reports by attempt.

    Cases of all attempts are shown: a later attempt does not withdraw the cases of an earlier one.
    """
    for attempt in view.run.attempts:
        reports = _in_time(attempt)
        for report in reports[seen.get(attempt.number, 0) :]:
            yield from report.cases
        seen[attempt.number] = len(reports)


def _in_time(attempt: Attempt) -> list[Report]:
    return [report for report in attempt.reports if not report.late]


def _show(item: DispatchItem, subtests: pytest.Subtests, case: Case, decided: Outcome = Outcome.FAILED) -> None:
    """Show a case as a sub-test; a bad case counts as skipped unless the run was `decided` as failed."""
    told, cases = told_case(case, decided), item.cases
    if cases.subtests == SUBTESTS:
        cases.further.append(told)
        return
    name, outcome, _, text = cases.shown = told
    cases.subtests += 1
    cases.failed += outcome == "failed"
    try:
        with subtests.test(name):
            if outcome == "skipped":
                pytest.skip(beginning(text))
            if outcome == "failed":
                raise WorkloadFailed(beginning(text), pytrace=False)
    finally:
        cases.shown = None


def note_facts(item: pytest.Item, view: RunView) -> None:
    """Set the run's facts as properties of the item, for JUnit files; replace older ones."""
    others = [fact for fact in item.user_properties if not fact[0].startswith("dispatch_")]
    item.user_properties[:] = others + facts_of(view.run, view.digest, view.issues, view.links)


class DispatchReports:
    """Adjusts pytest's reports: whose fault it was, the item as the location, and the duration of each case."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Report a lab fault as an error in every phase, also in tests marked `xfail`."""
        report = yield
        error = call.excinfo.value if call.excinfo is not None else None
        if isinstance(error, LabFault):
            if call.when == "call":
                report.when = "setup"
            report.outcome = "failed"
            vars(report).pop("wasxfail", None)
        if isinstance(error, LabFault | WorkloadFailed):
            report.longrepr, vars(report)[_STORY] = str(error), True
        if isinstance(item, DispatchItem):
            if isinstance(report.longrepr, tuple):
                report.longrepr = (item.nodeid, 1, report.longrepr[2])  # a skip
            _measure(report, item.cases)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Count failed cases that are not printed in a category of their own."""
        return (FURTHER, "", "") if is_quiet(report) else None

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Leave only the first line of each story: failures are printed, and in CI pytest's summary cuts nothing."""
        for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
            if getattr(report, _STORY, False):
                report.longrepr = report.longrepr.partition("\n")[0]


def _measure(report: pytest.TestReport, cases: _Cases) -> None:
    """Set the duration of a sub-test's report to that of its case, and attach the unprinted part to the report."""
    if cases.shown is None:
        attach(report, ItemDetails(cases=cases.further))
        cases.further = []
        return
    _, outcome, report.duration, text = cases.shown
    whole = text if beginning(text) != text else ""
    attach(report, ItemDetails(text=whole), quiet=outcome == "failed" and cases.failed > PRINTED)


def ask_for(lab_session: LabSession, item: pytest.Item, workload: Workload) -> None:
    """Submit an item's workload, unless that was done after collection.

    Raises:
        LabFault: The workload cannot be submitted.
    """
    if not any(name == "dispatch_workload" for name, _ in item.user_properties):  # an item that is run again has it
        item.user_properties.append(("dispatch_workload", workload.name))  # set it also if the lab cannot be reached
    if item.nodeid in lab_session.runs:
        return
    with lab_session.faults():
        lab_session.submit(
            with_prerequisites([wanted_by(item, workload)], lab_session.listing, asked=lab_session.asked)
        )


def use_fixture(item: pytest.Item) -> None:
    """Make a marked test use `dispatch_workload`, unless it already does or is a workload itself.

    Raises:
        pytest.UsageError: The test does not support fixtures.
    """
    fixtures = getattr(item, "fixturenames", None)
    if fixtures is None:
        raise pytest.UsageError(f"{item.nodeid}: mark dispatch: expected a test that takes fixtures; remove the mark")
    if not isinstance(item, DispatchItem) and "dispatch_workload" not in fixtures:
        fixtures.append("dispatch_workload")
