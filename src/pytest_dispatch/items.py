"""Workloads as test items: setup waits for the boot, call for the report, teardown for the machine's release."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

import pytest

from pytest_dispatch.core.model import Case, Outcome, Workload
from pytest_dispatch.core.plain import node_name, plain_line, shown, shown_wrapped
from pytest_dispatch.desk import DESK, Desk, has_booted
from pytest_dispatch.marks import wanted_by
from pytest_dispatch.outcomes import LabFault, WorkloadFailed, never_booted, raise_outcome
from pytest_dispatch.report.markdown import durations

if TYPE_CHECKING:
    from pytest_dispatch.server.wire import RunView

_BAD = {Outcome.FAILED, Outcome.ERROR}


class DispatchItem(pytest.Function):
    """One workload."""

    workload: Workload
    duration_of_case: float | None = None
    seen_to_the_end: bool = False

    def setup(self) -> None:
        """Set the fixtures up, then wait until the workload runs."""
        super().setup()
        desk = desk_of(self)
        if desk.client is None:
            return  # --setup-plan
        ask_for(desk, self, self.workload)
        view = desk.wait(self.nodeid, has_booted)
        if never_booted(view.run):
            raise_outcome(desk.settled(self.nodeid))

    def runtest(self) -> None:
        """Have pytest call the body, and let it pass only if that saw the workload's outcome.

        Raises:
            LabFault: The body was left early, as by the end of a debugger's input, or never called.
        """
        self.seen_to_the_end = False
        super().runtest()
        if not self.seen_to_the_end:
            raise LabFault("its test ended before the workload had an outcome: a debugger or another plugin ended it")

    def teardown(self) -> None:
        """Wait until the machine is let go, or let it go, and note the facts for reports."""
        try:
            view = desk_of(self).leave(self.nodeid)
            if view is not None:
                note_facts(self, view)
        finally:
            super().teardown()

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the item comes from, and how it is called above a failure; pytest shows both."""
        # the last must not end the node id: pytest would take it for a Python name, and show its dots as colons
        source = desk_of(self).listing.name
        return self.config.rootpath / source, 0, f"{source}: {self.name}"


def dispatch(request: pytest.FixtureRequest, subtests: pytest.Subtests) -> None:
    """The body of every item."""
    _call(request.node, subtests)


class DispatchCollector(pytest.Module):
    """The workloads of one source, as the tests of a module.

    To pytest they are functions of a module: so fixtures of all scopes, parameters, and plugins that look at an item's
    module or repeat tests work as with every other test.
    """

    @classmethod
    def of(cls, session: pytest.Session) -> DispatchCollector:
        """Return the collector of the source that the session's desk lists."""
        # its path is where the conftest.py files are whose hooks hold for workloads; a release has no path of its own
        name, path = desk_of(session).listing.name, session.config.rootpath
        collector: DispatchCollector = cls.from_parent(session, path=path, name=name, nodeid=name)
        module = ModuleType(name, cls.__doc__)
        module.__file__ = str(path / name)
        collector.obj = module
        return collector

    def istestfunction(self, obj: object, name: str) -> bool:  # noqa: ARG002 - pytest's signature
        """Say that the body of all items is one, whatever names the ini file wants tests to have."""
        return obj is dispatch

    def collect(self) -> Iterable[pytest.Item]:
        """Return an item for each workload that the command line wants, and for each parameter set of one.

        Raises:
            pytest.Collector.CollectError: The command line names a parameter set that there is not, or another plugin
                makes items of its own.
        """
        desk = desk_of(self)
        items = [item for workload in desk.listing.workloads if desk.wants(workload) for item in self._items(workload)]
        if desk.wanted is None:
            return items
        chosen = [item for item in items if desk.wanted & {item.workload.name, item.originalname, item.name}]
        found = {name for item in chosen for name in (item.workload.name, item.originalname, item.name)}
        for name in sorted(desk.wanted - found):
            raise self.CollectError(f"not found: {self.nodeid}::{name} (it has: {', '.join(i.name for i in items)})")
        return chosen

    def _items(self, workload: Workload) -> list[DispatchItem]:
        """Have pytest make items as of any function, with the parameters that plugins and fixtures give it."""
        name = node_name(workload.name)
        setattr(self.obj, name, dispatch)
        made = self.ihook.pytest_pycollect_makeitem(collector=self, name=name, obj=dispatch)
        return [self._own(item, workload) for item in made or ()]

    def _own(self, made: pytest.Item, workload: Workload) -> DispatchItem:
        if type(made) is not pytest.Function:
            raise self.CollectError(f"{workload.name}: expected an item of pytest's own, got another plugin's {made!r}")
        made.__class__ = DispatchItem  # pytest cannot be told which class to make
        item = cast("DispatchItem", made)
        item.workload = workload
        item.add_marker(f"dispatch_{workload.kind}")
        item.extra_keyword_matches.update({workload.name, *workload.labels})
        return item


def desk_of(node: pytest.Item | pytest.Collector) -> Desk:
    """The desk of the running session."""
    return node.config.stash[DESK]


def _call(item: DispatchItem, subtests: pytest.Subtests) -> None:
    """Show the workload's cases as they come, then its outcome.

    Bad cases are shown last: a verdict hook or a further attempt may yet turn the run into a pass, and pytest fails
    every item that has a failed sub-test.
    """
    desk, seen, bad = desk_of(item), 0, []
    while True:
        view = desk.wait(item.nodeid, _news_since(seen))
        cases = _cases(view)
        for case in cases[seen:]:
            if case.outcome in _BAD:
                bad.append(case)
            else:
                _show(item, subtests, case)
        seen = len(cases)
        if view.run.outcome is not None:
            break
    with suppress(WorkloadFailed):  # with -x a failed sub-test ends the item, before its whole story is told
        for case in bad:
            _show(item, subtests, case, view.run.outcome)
    if view.run.outcome is not Outcome.PASSED:
        raise_outcome(desk.settled(item.nodeid))
    item.seen_to_the_end = True


def _news_since(seen: int) -> Callable[[RunView], bool]:
    return lambda view: view.run.outcome is not None or len(_cases(view)) > seen


def _cases(view: RunView) -> list[Case]:
    """Cases of all attempts: what an earlier attempt said is not taken back by a later one."""
    return [case for a in view.run.attempts for r in a.reports if not r.late for case in r.cases]


def _show(item: DispatchItem, subtests: pytest.Subtests, case: Case, decided: Outcome = Outcome.FAILED) -> None:
    """Show a case as a sub-test; a bad one is skipped where the run, as `decided`, has not failed."""
    item.duration_of_case = case.duration
    try:
        with subtests.test(plain_line(case.name)):
            message = shown(case.message).strip()
            if case.outcome in _BAD and decided is not Outcome.FAILED:
                why = f": {shown_wrapped(message)}" if message else ""
                pytest.skip(f"{case.outcome}, but the run is {decided}{why}")
            if case.outcome is Outcome.SKIPPED:
                pytest.skip(shown_wrapped(message) or "the workload skipped it")
            if case.outcome in _BAD:
                raise WorkloadFailed(message or f"the case {case.outcome}", pytrace=False)
    finally:
        item.duration_of_case = None


def note_facts(item: pytest.Item, view: RunView) -> None:
    """Give the item's reports the facts about a run that JUnit files carry, in place of older ones."""
    run = view.run
    facts: list[tuple[str, object]] = [
        ("dispatch_workload", run.workload.name),
        ("dispatch_machine", run.attempt.machine),
        ("dispatch_digest", view.digest),
        ("dispatch_attempts", len(run.attempts)),
        ("dispatch_outcome", "cancelled" if run.cancelled else str(run.outcome)),
        ("dispatch_reason", plain_line(run.reason)),
    ]
    facts += [(f"dispatch_seconds_{state}", round(seconds, 3)) for state, seconds in durations(run)]
    facts += [("dispatch_issue", url) for url in view.issues]
    others = [fact for fact in item.user_properties if not fact[0].startswith("dispatch_")]
    item.user_properties[:] = others + [fact for fact in facts if fact[1] != ""]


class DispatchReports:
    """Makes pytest's reports say whose fault it was, and where; and how long a case took."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Make a lab fault an error in whichever phase it was found, also where a failure is expected (`xfail`)."""
        report = yield
        error = call.excinfo.value if call.excinfo is not None else None
        if call.excinfo is not None and isinstance(error, LabFault):
            if call.when == "call":
                report.when = "setup"
            report.longrepr = call.excinfo.getrepr(style="value", chain=False)
            report.outcome = "failed"
            vars(report).pop("wasxfail", None)
        if isinstance(error, LabFault | WorkloadFailed):
            _locate(report, item, str(error))
        if isinstance(item, DispatchItem):
            if isinstance(report.longrepr, tuple):
                report.longrepr = (item.nodeid, 1, report.longrepr[2])  # a skip
            if item.duration_of_case is not None:
                report.duration = item.duration_of_case
        return report


def _locate(report: pytest.TestReport, item: pytest.Item, text: str) -> None:
    """Let pytest's one-line forms name the item, and not the line of ours that raised; in CI pytest cuts no line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.path, crash.lineno, crash.message = item.nodeid, 1, text.partition("\n")[0]


def ask_for(desk: Desk, item: pytest.Item, workload: Workload) -> None:
    """Ask for an item's workload, unless that was done when all items were collected.

    Raises:
        LabFault: It cannot be asked for.
    """
    if not any(name == "dispatch_workload" for name, _ in item.user_properties):  # not so where it is run again
        item.user_properties.append(("dispatch_workload", workload.name))  # also where the lab can tell nothing
    if item.nodeid in desk.runs:
        return
    with desk.faults():
        desk.submit([wanted_by(item, workload)])


def use_fixture(item: pytest.Item) -> None:
    """Have a marked test use `dispatch_workload`, unless it does or is a workload itself.

    Raises:
        pytest.UsageError: It takes no fixtures.
    """
    fixtures = getattr(item, "fixturenames", None)
    if fixtures is None:
        raise pytest.UsageError(f"{item.nodeid}: mark dispatch: expected a test that takes fixtures; remove the mark")
    if not isinstance(item, DispatchItem) and "dispatch_workload" not in fixtures:
        fixtures.append("dispatch_workload")
