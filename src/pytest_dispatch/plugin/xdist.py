"""With pytest-xdist: the controller owns the lab, its workers are the lab's clients."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.plain_text import node_name
from pytest_dispatch.plugin.collection import DispatchCollection, take_node_ids
from pytest_dispatch.plugin.lab_session import DESK, Desk
from pytest_dispatch.sources.base import Listing
from pytest_dispatch.sources.locations import Places
from pytest_dispatch.support.codec import decode


class _Handover(msgspec.Struct, kw_only=True):
    """What a worker gets from its controller, in a file: whoever shows what xdist hands over shows a path.

    Attributes:
        token: Of the lab's API.
        epoch: Of the session's lease.
        places: What the lab reads itself.
    """

    source: str
    workloads: tuple[Workload, ...]
    url: str
    token: str
    session: str
    epoch: int
    places: Places

    def __repr__(self) -> str:
        """Be short, and without the token: pytest may show it in a traceback."""
        return f"<_Handover {self.url}>"


class DispatchNodes:
    """On the controller: hands the lab's address to the workers, and a dead worker's item to another one."""

    def __init__(self, desk: Desk, token: str) -> None:
        self._desk = desk
        self._token = token
        self._crashed: set[str] = set()
        self._folder: TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Remove the file with the token; may be called again."""
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Before a worker starts, also one that takes the place of another."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="pytest-dispatch-")  # which nobody else may enter
            handover = _Handover(
                source=self._desk.listing.name,
                workloads=self._desk.listing.workloads,
                url=self._desk.lab.url,
                token=self._token,
                session=self._desk.session,
                epoch=self._desk.lab.epoch,
                places=self._desk.lab.places,
            )
            Path(self._folder.name, "handover.json").write_bytes(msgspec.json.encode(handover))
        node.workerinput["dispatch"] = str(Path(self._folder.name, "handover.json"))

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: Any) -> bool | None:
        """A worker died that waited for one of our items. The workload goes on, and can do nothing for it.

        So another worker waits for the same run. If that one dies too, or pytest-xdist does not hand items over as it
        distributes them (`--dist=loadscope` and the like), the item ends as an error.
        """
        name = crashitem.removeprefix(f"{self._desk.listing.name}::")
        if name == crashitem:
            return None
        if crashitem not in self._crashed:
            self._crashed.add(crashitem)
            with suppress(NotImplementedError):
                sched.mark_test_pending(crashitem)
                report.outcome, report.when = "passed", "teardown"  # which pytest does not count, nor show
                return True
        report.when = "setup"
        ours = name.partition("[")[0]  # without parameters
        told = next((w.name for w in self._desk.listing.workloads if node_name(w.name) == ours), name)
        report.user_properties.append(("dispatch_workload", told))
        return True


class DispatchWorker:
    """On a worker: collects the same items, and speaks with the controller's lab."""

    def __init__(self, config: pytest.Config, given: str) -> None:
        from pytest_dispatch.client.lab_client import LabClient

        handover = decode(Path(given).read_bytes(), _Handover)
        self._desk = desk = Desk(
            listing=Listing(name=handover.source, workloads=handover.workloads),
            wanted=take_node_ids(config, handover.source),
            client=LabClient(handover.url, handover.token, handover.epoch, handover.places),
            session=handover.session,
        )
        config.stash[DESK] = desk
        config.pluginmanager.register(DispatchCollection(config, desk), "dispatch-collection")
        config.add_cleanup(desk.close)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Nothing is asked of the lab any more: an interrupted controller has stopped it."""
        self._desk.close()
