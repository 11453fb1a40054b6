"""The service of boot workloads: fetches their bytes, answers machines, and handles messages of workloads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.media import BOOT, BootPayload
from pytest_dispatch.lab.kind_services import Kind, Resources, Service
from pytest_dispatch.sources.asset_fetcher import Asset
from pytest_dispatch.sources.locations import DIGEST
from pytest_dispatch.sources.streamed_asset import Arrival
from pytest_dispatch.store.journal import served_row
from pytest_dispatch.support.file_stamp import UNKNOWN
from pytest_dispatch.workloads.boot.beacons import Beacons
from pytest_dispatch.workloads.boot.lifecycle import Event, State
from pytest_dispatch.workloads.boot.prefetch import Prefetcher
from pytest_dispatch.workloads.boot.protocol import BootProtocol
from pytest_dispatch.workloads.boot.requests import BootRequests
from pytest_dispatch.workloads.boot.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_dispatch.core.model import Run, Workload
    from pytest_dispatch.core.runs import Change

#: States of attempts that have not taken all of their bytes.
_NOTHING_TAKEN = {State.UNASSIGNED, State.ASSIGNED, State.DOWNLOADING}


class BootService(Service):
    """The bytes of boot workloads, the requests of machines, and the messages of workloads.

    Attributes:
        assets: Bytes that are there or arrive, by run.
        requests: Handles requests of machines.
        beacons: Handles messages of workloads.
    """

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self.assets: dict[str, Asset | Arrival] = {}
        self._queue = self.lab_state.queue
        self._protocol = BootProtocol(self._queue)
        self.requests = BootRequests(self.lab_state, self._protocol, self._is_late)
        self.beacons = Beacons(self.lab_state, self._protocol)
        self.progress = self.requests.progress
        self._cache = resources.cache
        self._locations = resources.locations
        self._prefetcher = Prefetcher(
            resources.cache, resources.locations, self._fetched, self._arriving, self._unfetchable
        )
        self._later: dict[str, Asset] = {}  # for a further attempt, while a machine runs other bytes; by run

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to fetch."""
        return self._prefetcher.start()

    async def stop(self) -> None:
        """Give up what is being fetched."""
        self.requests.look()
        await self._prefetcher.stop()

    def check(self, session: str, workload: Workload) -> None:
        """Refuse bytes that the lab may not read for this session; nothing is read to find that out.

        Raises:
            ConfigError: Says what was expected, and what came.
        """
        where = f"{workload.name}: payload"
        payload = BootPayload.checked(workload, where)
        try:
            self._locations.check(payload.location)
            if DIGEST.fullmatch(payload.location):
                self._check_upload(session, workload.digest, payload)
        except ConfigError as error:
            raise ConfigError(f"{where}: location: {error}") from None

    def _check_upload(self, session: str, digest: str, payload: BootPayload) -> None:
        """Refuse a digest that this session has not uploaded itself."""
        location, size = payload.location, payload.size
        if not self._cache.uploads.has(session, location, size):
            what = f"expected the digest of {size} bytes that this session has uploaded"
            raise ConfigError(f"{what}, got {location}; upload them first")
        if digest not in ("", location):
            raise ConfigError(f"expected the workload's own digest, {digest[:80]!r}, got {location}")

    async def inherit(self, session: str, workload: Workload) -> None:
        """Let a session boot bytes that another one has uploaded, as long as the cache has them.

        Raises:
            ConfigError: It has removed them.
        """
        payload = BootPayload.of(workload)
        if not DIGEST.fullmatch(payload.location):
            return
        self._cache.uploads.remember(session, payload.location, payload.size)
        if not (await self._cache.uploads.standing(session, payload.location)).complete:
            raise ConfigError(
                f"expected bytes of {workload.name} that the lab still has, got {payload.location}, which were removed"
                " to make room; submit it again from where it came"
            )

    def wanted(self, runs: list[Run]) -> None:
        """Have the bytes of these runs fetched."""
        for run in runs:
            self._prefetcher.taken(run.id)  # drops what was fetched before it was submitted again
        self._prefetcher.want(runs)

    def changed(self, change: Change) -> None:
        """Record which bytes an attempt begins to download, and release or prepare others."""
        run = change.run
        if change.event == Event.SEND:
            self.lab_state.write([served_row(run.id, change.attempt, self.lab_state.digest_of(run))])
        if change.event == Event.SENT:
            self._sent(run, change.attempt)
        if change.event == Event.ASSIGN or run.outcome is not None:
            self._prefetcher.taken(run.id)
        if run.outcome is not None:
            self._cache.release(run.id)
        if run.attempt.state == State.UNASSIGNED and run.id in self._later:
            self._give(run, self._later.pop(run.id))
        if change.event == Event.ASSIGN:
            self.requests.look(run.attempt.machine)
        elif run.attempt.state == State.UNASSIGNED:
            self.requests.one_is_ready()

    def _sent(self, run: Run, attempt: int) -> None:
        """Note which bytes a machine has taken, where that was not known when it began."""
        asset = self.assets.get(run.id)
        if isinstance(asset, Arrival) and asset.digest not in ("", self.lab_state.digest_of(run)):
            self.lab_state.digests[run.id] = asset.digest
            self.lab_state.write([served_row(run.id, attempt, asset.digest)])

    def recalled(self, session: str, served: Mapping[str, str]) -> None:
        """Restore the digests of what a session's attempts ran, and of what it had uploaded."""
        boots = [run for run in self._queue.sessions.runs_of(session) if run.workload.kind == BOOT]
        for payload in (BootPayload.of(run.workload) for run in boots):
            if DIGEST.fullmatch(payload.location):
                self._cache.uploads.remember(session, payload.location, payload.size)
        for run_id, digest in served.items():
            if run_id in self._queue.runs:
                run = self._queue.runs[run_id]
                payload = BootPayload.of(run.workload)
                path = Path(payload.location)
                self._give(run, Asset(path=path, size=payload.size, digest=digest, stamp=UNKNOWN))

    def forget(self, runs: list[str]) -> None:
        """Drop the bytes of these runs."""
        for run in runs:
            self.assets.pop(run, None)
            self._later.pop(run, None)
            self._prefetcher.taken(run)

    def waiting_machines(self) -> set[str]:
        """Return the machines that run the wait program."""
        return self._protocol.waiting_machines()

    def _give(self, run: Run, asset: Asset) -> None:
        self.assets[run.id] = asset
        self.lab_state.digests[run.id] = asset.digest

    def _is_late(self, run_id: str) -> bool:
        """Tell whether a run's bytes arrive too slowly for a machine to wait for them."""
        asset = self.assets.get(run_id)
        return isinstance(asset, Arrival) and asset.is_late()

    def _arriving(self, run: Run, arrival: Arrival) -> None:
        """Let machines have a run whose bytes are on their way, unless one has others of it."""
        now = self._queue.runs.get(run.id)
        if now is None or now.outcome is not None or not _same_bytes(run, now):
            return
        if run.id in self.assets and now.attempt.state not in _NOTHING_TAKEN:
            return
        self.assets[run.id] = arrival
        self._has_what_it_needs(run.id)

    def _fetched(self, run: Run, asset: Asset) -> None:
        now = self._queue.runs.get(run.id)
        if now is None or now.outcome is not None:
            self._cache.release(run.id)  # it ended during the download
        if now is None or not _same_bytes(run, now):
            return  # it is forgotten, or was submitted again with other bytes
        old = self.assets.get(run.id)
        if old is None or _becomes(old, asset) or now.attempt.state in _NOTHING_TAKEN:
            self._give(run, asset)
        else:
            self._later[run.id] = asset
        self._has_what_it_needs(run.id)

    def _has_what_it_needs(self, run_id: str) -> None:
        self._queue.transitions.has_what_it_needs(run_id, self._now())
        if self._queue.runs[run_id].attempt.machine:  # taken back from the journal: no machine will take it once more
            self._prefetcher.taken(run_id)
        self.lab_state.commit()
        self.requests.one_is_ready()
        self.lab_state.wake()

    def _unfetchable(self, run: Run, why: str) -> None:
        now = self._queue.runs.get(run.id)
        if now is not None and _same_bytes(run, now):
            self._queue.transitions.lacks(run.id, why, self._now())
            self.lab_state.commit()
            self.requests.look()

    def _now(self) -> float:
        return self.lab_state.clock.now()


def _becomes(old: Asset | Arrival, asset: Asset) -> bool:
    """Tell whether these are the same bytes: those that a machine has begun to read are not taken from under it."""
    return old.digest == asset.digest


def _same_bytes(one: Run, other: Run) -> bool:
    """Return whether two runs, or one run at two times, have the same bytes."""
    ours, theirs = BootPayload.of(one.workload), BootPayload.of(other.workload)
    same = (ours.location, ours.size) == (theirs.location, theirs.size)
    return same and one.workload.digest == other.workload.digest


BOOT_KIND = Kind(RULES, BootService)
