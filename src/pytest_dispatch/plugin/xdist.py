"""Support for pytest-xdist: the controller owns the lab, and its workers are clients of the lab."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.plain_text import node_name
from pytest_dispatch.plugin.collection import DispatchCollection, take_node_ids
from pytest_dispatch.plugin.lab_session import LAB_SESSION, LabSession
from pytest_dispatch.sources.base import Listing
from pytest_dispatch.sources.locations import Locations
from pytest_dispatch.support.codec import decode

if TYPE_CHECKING:
    from pytest_dispatch.client.lab_client import LabClient


class _Handover(msgspec.Struct, kw_only=True):
    """The data that a worker gets from its controller, in a file, so that a log of xdist's data shows only a path.

    Attributes:
        token: Token of the lab's API.
        epoch: Epoch of the session's lease; in a shared lab it may change, and then the file does.
        groups: Groups that begin node ids.
        locations: Folders that the lab reads itself.
        shared: Whether others use the lab too.
    """

    source: str
    workloads: tuple[Workload, ...]
    groups: tuple[str, ...]
    url: str
    token: str
    session: str
    epoch: int
    locations: Locations
    shared: bool

    def __repr__(self) -> str:
        """Return a short text without the token: pytest may show it in a traceback."""
        return f"<_Handover {self.url}>"


class DispatchNodes:
    """On the controller: passes the lab's address to the workers, and a crashed worker's item to another worker."""

    def __init__(self, lab_session: LabSession, token: str, *, shared: bool) -> None:
        self._lab_session = lab_session
        self._token = token
        self._shared = shared
        self._crashed: set[str] = set()
        self._folder: TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Remove the file with the token; may be called again."""
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Pass the data to a worker before it starts, also to one that replaces a crashed worker."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="pytest-dispatch-")  # has mode 0700
            self.hand_over(self._lab_session.lab.epoch)
        node.workerinput["dispatch"] = str(Path(self._folder.name, "handover.json"))

    def hand_over(self, epoch: int) -> None:
        """Write what workers need; again, when the session has another epoch."""
        if self._folder is None:
            return  # there are no workers, or it is over
        handover = _Handover(
            source=self._lab_session.listing.name,
            workloads=self._lab_session.listing.workloads,
            groups=self._lab_session.listing.groups,
            url=self._lab_session.lab.url,
            token=self._token,
            session=self._lab_session.session,
            epoch=epoch,
            locations=self._lab_session.lab.uploader.locations,
            shared=self._shared,
        )
        new = Path(self._folder.name, "handover.new")
        new.write_bytes(msgspec.json.encode(handover))
        new.replace(new.with_suffix(".json"))

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: Any) -> bool | None:
        """Let another worker wait for the run of a workload item whose worker crashed.

        The workload itself goes on, and is not at fault. If the second worker crashes too, or the distribution mode
        cannot reassign items (such as `--dist=loadscope`), the item ends as an error.
        """
        part, _, name = crashitem.partition("::")
        if part not in self._lab_session.listing.parts:
            return None
        if crashitem not in self._crashed:
            self._crashed.add(crashitem)
            with suppress(NotImplementedError):
                sched.mark_test_pending(crashitem)
                report.outcome, report.when = "passed", "teardown"  # pytest neither counts nor shows such a report
                return True
        report.when = "setup"
        ours = name.partition("[")[0]  # without parameters
        told = next((w.name for w in self._lab_session.listing.workloads if node_name(w.name) == ours), name)
        report.user_properties.append(("dispatch_workload", told))
        return True


class DispatchWorker:
    """On a worker: collects the same items, and is a client of the controller's lab."""

    def __init__(self, config: pytest.Config, given: str) -> None:
        handover = decode(Path(given).read_bytes(), _Handover)
        listing = Listing(name=handover.source, workloads=handover.workloads, groups=handover.groups)
        self._lab_session = lab_session = LabSession(
            listing=listing,
            wanted=take_node_ids(config, listing),
            client=_client(handover, Path(given)),
            session=handover.session,
        )
        config.stash[LAB_SESSION] = lab_session
        config.pluginmanager.register(DispatchCollection(config, lab_session), "dispatch-collection")
        config.add_cleanup(lab_session.close)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Close the lab's client: an interrupted controller has already stopped the lab."""
        self._lab_session.close()


def _client(handover: _Handover, file: Path) -> LabClient:
    if handover.shared:
        from pytest_dispatch.client.shared_lab_client import Handed, SharedLabClient

        handed = Handed(handover.session, lambda: decode(file.read_bytes(), _Handover).epoch)
        return SharedLabClient(handover.url, handover.token, handed=handed)
    from pytest_dispatch.client.lab_client import LabClient

    return LabClient(handover.url, handover.token, handover.epoch, handover.locations)
