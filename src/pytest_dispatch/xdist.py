"""With pytest-xdist: the controller owns the lab, its workers are the lab's clients."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest

from pytest_dispatch.collection import DispatchCollection, take_node_ids
from pytest_dispatch.core.model import Workload
from pytest_dispatch.desk import DESK, Desk
from pytest_dispatch.shapes import decode
from pytest_dispatch.sources.base import Listing


class _Handover(msgspec.Struct, kw_only=True):
    """What a worker gets from its controller."""

    source: str
    workloads: tuple[Workload, ...]
    url: str
    token: str
    session: str


class DispatchNodes:
    """On the controller: hands the lab's address to the workers, and a dead worker's item to another one."""

    def __init__(self, desk: Desk, token: str) -> None:
        self._desk = desk
        self._token = token
        self._crashed: set[str] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Before a worker starts, also one that takes the place of another."""
        handover = _Handover(
            source=self._desk.listing.name,
            workloads=self._desk.listing.workloads,
            url=self._desk.lab.url,
            token=self._token,
            session=self._desk.session,
        )
        node.workerinput["dispatch"] = msgspec.json.encode(handover).decode()

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: Any) -> bool | None:
        """A worker died that waited for one of our items. The workload goes on, and can do nothing for it.

        So another worker waits for the same run. If that one dies too, or pytest-xdist does not hand items over as it
        distributes them (`--dist=loadscope` and the like), the item ends as an error.
        """
        source, colons, name = crashitem.partition("::")
        if source != self._desk.listing.name or not colons:
            return None
        if crashitem not in self._crashed:
            self._crashed.add(crashitem)
            with suppress(NotImplementedError):
                sched.mark_test_pending(crashitem)
                report.outcome, report.when = "passed", "teardown"  # which pytest does not count, nor show
                return True
        report.when = "setup"
        report.user_properties.append(("dispatch_workload", name))
        return True


class DispatchWorker:
    """On a worker: collects the same items, and speaks with the controller's lab."""

    def __init__(self, config: pytest.Config, given: str) -> None:
        from pytest_dispatch.client import LabClient

        handover = decode(given, _Handover)
        self._desk = desk = Desk(
            listing=Listing(name=handover.source, workloads=handover.workloads),
            wanted=take_node_ids(config, handover.source),
            client=LabClient(handover.url, handover.token),
            session=handover.session,
        )
        config.stash[DESK] = desk
        config.pluginmanager.register(DispatchCollection(config, desk), "dispatch-collection")
        config.add_cleanup(desk.close)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Nothing is asked of the lab any more: an interrupted controller has stopped it."""
        self._desk.close()
