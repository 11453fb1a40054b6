"""With pytest-xdist: the controller owns the lab, its workers are the lab's clients."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pytest_dispatch.client import LabClient
from pytest_dispatch.collection import DispatchCollection, take_node_ids
from pytest_dispatch.core.model import Workload
from pytest_dispatch.desk import DESK, Desk
from pytest_dispatch.sources.base import Listing


class _Handover(msgspec.Struct, kw_only=True):
    """What a worker gets from its controller."""

    source: str
    workloads: tuple[Workload, ...]
    url: str
    token: str
    session: str


class DispatchNodes:
    """On the controller: hands the lab's address to the workers."""

    def __init__(self, desk: Desk, token: str) -> None:
        self._desk = desk
        self._token = token

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


class DispatchWorker:
    """On a worker: collects the same items, and speaks with the controller's lab."""

    def __init__(self, config: pytest.Config, given: str) -> None:
        handover = msgspec.json.decode(given, type=_Handover)
        self._desk = desk = Desk(
            listing=Listing(name=handover.source, workloads=handover.workloads),
            wanted=take_node_ids(config, handover.source),
            client=LabClient(handover.url, handover.token),
            session=handover.session,
        )
        config.stash[DESK] = desk
        config.pluginmanager.register(DispatchCollection(desk), "dispatch-collection")
        config.add_cleanup(desk.close)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Nothing is asked of the lab any more: an interrupted controller has stopped it."""
        self._desk.close()
