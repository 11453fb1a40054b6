"""The fixtures for Python tests that use workloads; they load their dependencies only when used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_dispatch.plugin.fixture_objects import DispatchLab, DispatchWorkload
    from pytest_dispatch.plugin.lab_session import Desk

_INACTIVE = "{} needs a source of workloads: give --dispatch-repo OWNER/REPO or --dispatch-dir DIR"


@pytest.fixture(scope="session")
def dispatch_lab(request: pytest.FixtureRequest) -> DispatchLab:
    """Return the lab that runs this session's workloads."""
    from pytest_dispatch.plugin.fixture_objects import DispatchLab

    return DispatchLab(_desk(request, "dispatch_lab"))


@pytest.fixture
def dispatch_workload(request: pytest.FixtureRequest) -> Iterator[DispatchWorkload]:
    """Return the workload named by `@pytest.mark.dispatch("NAME")`, once it runs."""
    desk = _desk(request, "dispatch_workload")
    from pytest_dispatch.core.model import Outcome
    from pytest_dispatch.plugin.fixture_objects import DispatchWorkload
    from pytest_dispatch.plugin.items import note_facts
    from pytest_dispatch.plugin.lab_session import has_booted
    from pytest_dispatch.plugin.outcomes import never_booted, raise_outcome, told

    item = request.node
    name = _asked_for(desk, item)
    view = desk.wait(item.nodeid, has_booted)
    if never_booted(view.run):
        raise_outcome(desk.settled(item.nodeid))
    yield DispatchWorkload(name, desk, item.nodeid)
    last = desk.leave(item.nodeid)
    if last is not None:
        note_facts(item, last)
        if last.run.outcome in (Outcome.FAILED, Outcome.ERROR):  # pytest shows it where the test failed too
            item.add_report_section("teardown", "dispatch", told(last))


def _asked_for(desk: Desk, item: pytest.Item) -> str:
    """Submit the workload of the item's mark, unless that was done after collection; return its name."""
    from pytest_dispatch.core.errors import ConfigError
    from pytest_dispatch.plugin.items import ask_for
    from pytest_dispatch.plugin.marks import named_workload

    with desk.faults():
        name = named_workload(item)
        if not name:
            raise ConfigError('dispatch_workload needs a workload: @pytest.mark.dispatch("NAME")')
        workload = desk.workload(name)
        if workload is None:
            raise ConfigError(f"no workload {name!r} in {desk.listing.name}; it has: {desk.known}")
        ask_for(desk, item, workload)
    return name


def _desk(request: pytest.FixtureRequest, fixture: str) -> Desk:
    if not request.config.pluginmanager.has_plugin("dispatch-session"):
        pytest.fail(_INACTIVE.format(fixture), pytrace=False)
    from pytest_dispatch.plugin.lab_session import DESK

    return request.config.stash[DESK]
