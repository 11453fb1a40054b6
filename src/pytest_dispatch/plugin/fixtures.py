"""The fixtures for Python tests that use workloads; they load their dependencies only when used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_dispatch.plugin.fixture_objects import DispatchLab, DispatchWorkload
    from pytest_dispatch.plugin.lab_session import LabSession

_INACTIVE = (
    "{} needs a source of workloads: give --dispatch-repo OWNER/REPO, --dispatch-dir DIR or --dispatch-actions FILE"
)


@pytest.fixture(scope="session")
def dispatch_lab(request: pytest.FixtureRequest) -> DispatchLab:
    """Return the lab that runs this session's workloads."""
    from pytest_dispatch.plugin.fixture_objects import DispatchLab

    return DispatchLab(_lab_session(request, "dispatch_lab"))


@pytest.fixture
def dispatch_workload(request: pytest.FixtureRequest) -> Iterator[DispatchWorkload]:
    """Return the workload named by `@pytest.mark.dispatch("NAME")`, once it runs."""
    lab_session = _lab_session(request, "dispatch_workload")
    from pytest_dispatch.core.model import Outcome
    from pytest_dispatch.plugin.fixture_objects import DispatchWorkload
    from pytest_dispatch.plugin.items import note_facts
    from pytest_dispatch.plugin.lab_session import has_booted
    from pytest_dispatch.plugin.outcomes import never_booted, raise_outcome, told

    item = request.node
    name = _asked_for(lab_session, item)
    view = lab_session.wait(item.nodeid, has_booted)
    if never_booted(view.run):
        raise_outcome(lab_session.settled(item.nodeid))
    yield DispatchWorkload(name, lab_session, item.nodeid)
    last = lab_session.leave(item.nodeid)
    if last is not None:
        note_facts(item, last)
        if last.run.outcome in (Outcome.FAILED, Outcome.ERROR):  # pytest shows it where the test failed too
            item.add_report_section("teardown", "dispatch", told(last))


def _asked_for(lab_session: LabSession, item: pytest.Item) -> str:
    """Submit the workload of the item's mark, unless that was done after collection; return its name."""
    from pytest_dispatch.core.errors import ConfigError
    from pytest_dispatch.plugin.items import ask_for
    from pytest_dispatch.plugin.marks import named_workload

    with lab_session.faults():
        name = named_workload(item)
        if not name:
            raise ConfigError('dispatch_workload needs a workload: @pytest.mark.dispatch("NAME")')
        workload = lab_session.workload(name)
        if workload is None:
            raise ConfigError(f"no workload {name!r} in {lab_session.listing.name}; it has: {lab_session.known}")
        ask_for(lab_session, item, workload)
    return name


def _lab_session(request: pytest.FixtureRequest, fixture: str) -> LabSession:
    if not request.config.pluginmanager.has_plugin("dispatch-session"):
        pytest.fail(_INACTIVE.format(fixture), pytrace=False)
    from pytest_dispatch.plugin.lab_session import LAB_SESSION

    return request.config.stash[LAB_SESSION]
