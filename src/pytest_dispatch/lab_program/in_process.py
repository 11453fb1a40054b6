"""A lab inside this process: built from a configuration, and run in a separate thread."""

from __future__ import annotations

import asyncio
import errno
import secrets
import shutil
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.core.clock import SteadyClock
from pytest_dispatch.core.errors import DispatchError, LabError
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.lab.external_systems import GitHubUse
from pytest_dispatch.lab.lab import Lab
from pytest_dispatch.lab_program.child_messages import Stopped
from pytest_dispatch.lab_program.config import LabConfig
from pytest_dispatch.lab_program.github_access import GitHubAccess
from pytest_dispatch.lab_program.machine_making import make_machine, make_machines, told_apart
from pytest_dispatch.lab_program.testflinger_access import TestflingerAccess
from pytest_dispatch.server.api.route import PREFIX
from pytest_dispatch.server.app import DRAIN, ApiAddress, LabServer
from pytest_dispatch.server.auth.authentication import PrivateAccess, ServiceAccess
from pytest_dispatch.server.auth.callers import Caller
from pytest_dispatch.server.auth.principals import LAB
from pytest_dispatch.server.boot.identification import Address
from pytest_dispatch.sources.asset_fetcher import AssetFetcher
from pytest_dispatch.sources.locations import Locations
from pytest_dispatch.store.journal import KEPT_SESSIONS, Journal, PendingIssue, SessionRecord, session_row
from pytest_dispatch.support.event_loop import LoopThread
from pytest_dispatch.workloads.registry import known_kinds

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock
    from pytest_dispatch.lab.history_sweep import HistorySweep
    from pytest_dispatch.lab.roster import Configuration, RosterChange
    from pytest_dispatch.lab.round_runner import Launcher
    from pytest_dispatch.lab_program.service_config import ServiceConfig
    from pytest_dispatch.lab_program.service_reload import ServiceReload
    from pytest_dispatch.machines.base import DrivenMachine
    from pytest_dispatch.server.auth.authentication import Access
    from pytest_dispatch.server.auth.round_tokens import RoundTokens
    from pytest_dispatch.server.metrics import Metrics

START = 30.0  # longest start, in seconds
STOP = 2.0  # longest stop, in seconds
ANSWER = 5.0  # longest time for a sign of life, in seconds
RELOAD = 120.0  # longest reload, in seconds: it may fetch templates
GOODBYE = 1.0  # longest time to withdraw the mDNS announcement, in seconds


class InProcessLab:
    """A lab in a thread. Call `start`, use its `url` and `token`, then call `stop`.

    Args:
        config: The lab's configuration.
        service: What it has as a service; None for a private lab.
        token: Bearer token of the API; empty for a new one.
        clock: Tells the time; None for this computer's. A test of weeks of a lab moves one of its own on.

    Attributes:
        token: Bearer token of the API.
        sign_in_path: Path of a link by which the administrator of a service signs in once; empty if an administrator
            can sign in. It is a secret.
        url: `http://HOST:PORT` of the lab's API, as seen from this computer.
        boot_url: What machines boot from that have no URL of their own.
        damage: A repaired problem with the journal or the port, in words; empty if there was none.
        end: The outbox's state when the lab stopped; None until then.
    """

    def __init__(
        self, config: LabConfig, service: ServiceConfig | None = None, token: str = "", clock: Clock | None = None
    ) -> None:
        self._config = config
        self._clock = clock or SteadyClock()
        self._service = service
        self._loop = LoopThread()
        self._parts = ExitStack()
        self._lab: Lab | None = None
        self._server: LabServer | None = None
        self._access: Access
        self._metrics: Metrics | None = None
        self._reload: ServiceReload | None = None
        self._rounds: RoundTokens | None = None
        self._testflinger = TestflingerAccess(config.testflinger)
        self.token = token or secrets.token_urlsafe(24)
        self.sign_in_path = ""
        self.url = ""
        self.boot_url = ""
        self.damage = ""
        self.end: Stopped | None = None

    def start(self, source: str, locations: Locations | None = None) -> None:
        """Start the lab.

        Args:
            source: Name of the workloads' source, by which an interrupted session is found.
            locations: Folders and APIs that the lab may read, in place of those in the configuration.

        Raises:
            DispatchError: Something is missing or already in use; nothing is left running.
        """
        self._config = replace(self._config, locations=locations or self._config.locations)
        with ExitStack() as parts:
            state = Path(tempfile.mkdtemp(prefix="pytest-dispatch-"))
            parts.callback(shutil.rmtree, state, ignore_errors=True)
            made = [machine for spec in self._config.machines for machine in make_machines(spec, state)]
            roster = self._service.roster.machines if self._service is not None else ()
            machines = told_apart([*made, *(make_machine(each, state) for each in roster if each.driver is not None)])
            kept = KEPT_SESSIONS if self._config.private else None
            journal = Journal(self._config.db, kept, resumes=self._config.resume or not self._config.private)
            parts.callback(journal.close)
            journal.open()
            self.damage = journal.damage
            self._loop.start()
            parts.callback(self._loop.stop)
            self._loop.call(lambda: self._start(parts, journal, machines, state, source), START)
            self._parts = parts.pop_all()

    def stop(self) -> None:
        """Stop the lab in bounded time; may be called again.

        Raises:
            LabError: Something did not end in time.
        """
        self._parts.close()

    @property
    def broken(self) -> DispatchError | None:
        """Return the error that stopped the lab from serving requests; None while it works."""
        return self._lab.broken if self._lab is not None else None

    def answers(self) -> bool:
        """Return whether the lab's event loop does its work."""
        try:
            self._loop.call(_nothing, ANSWER)
        except LabError:
            return False
        return True

    def reload(self, by: str) -> RosterChange:
        """Read the configuration of a service anew, and return what is different; the audit log has it as the lab's.

        Args:
            by: What asks for it: a signal.

        Raises:
            DispatchError: It cannot be used; nothing is changed.
        """
        lab = self._lab
        if lab is None or lab.reloads is None:
            raise LabError("expected a service that has started, got another lab; reload it later")
        reloads, access, lab_state = lab.reloads, self._access, lab.lab_state

        async def reload() -> RosterChange:
            done = await reloads.reload(by)
            if isinstance(access, ServiceAccess):
                access.audit.note(LAB, Caller(by, "", ""), "lab.reload", "lab.yaml", done.before, done.after)
                await lab_state.on_disk()
            return done.change

        return self._loop.call(reload, RELOAD)

    def drain(self) -> None:
        """Take no new work, and return when what is under way is answered, or some seconds later."""
        lab, server = self._lab, self._server
        if lab is None or server is None:
            return

        async def drain() -> None:
            lab.close()
            await server.drain()

        with suppress(LabError):
            self._loop.call(drain, DRAIN + STOP)

    def say_goodbye(self) -> None:
        """Withdraw the mDNS announcement within `GOODBYE` seconds.

        For a lab that ends without `stop`. May be called from any thread, whatever the other threads do.
        """
        if self._server is not None:
            with suppress(Exception):  # the process ends: nobody is left to report an error to
                self._loop.call(self._server.say_goodbye, GOODBYE)

    async def _start(
        self,
        parts: ExitStack,
        journal: Journal,
        machines: list[DrivenMachine],
        state: Path,
        source: str,
    ) -> None:
        config, service = self._config, self._service
        github = GitHubAccess(config, service)
        parts.callback(github.close)
        bytes_cache = AssetFetcher(config.cache, config.cache_limit, config.token, token_for=github.token_for)
        self._lab = lab = self._made(journal, machines, bytes_cache, github)
        if service is not None:
            read = self._read_anew if service.read is not None else None
            await lab.configure(service.roster, read, lambda each: make_machine(each, state), self._launcher())
        lab.queue.sessions.expecting = config.private
        interrupted = await journal.background.last_unfinished(source) if config.resume else None
        pending_issues = await journal.background.pending_issues()  # before there can be new ones
        if config.groups or config.templates:
            await lab.group_service.configure(config.groups, config.templates)
        await lab.recall()  # before a machine can ask
        await self._begin_access(parts, lab)
        sweep = self._history_sweep(lab, github)
        self._metrics = self._metrics_of(lab, github)
        server = await self._listening(lab, journal, interrupted)
        parts.callback(lambda: self._loop.call(lambda: self._stop(lab, server, bytes_cache), STOP))
        if interrupted is not None and interrupted.port != server.port:  # a later resume needs the new port
            await asyncio.wrap_future(journal.write([session_row(replace(interrupted, port=server.port))]))
        await bytes_cache.open()
        self.url, self.boot_url = server.url, server.boot_url
        await lab.start(server.machine_url, [self._addressed(pending) for pending in pending_issues])
        if sweep is not None:
            lab.watch(asyncio.create_task(sweep.work(), name="the sweep of the journal"))

    def _made(
        self, journal: Journal, machines: list[DrivenMachine], bytes_cache: AssetFetcher, github: GitHubAccess
    ) -> Lab:
        config = self._config
        return Lab(
            clock=self._clock,
            journal=journal,
            cache=bytes_cache,
            locations=replace(config.locations, apis=(*config.locations.apis, config.api_url)),
            kinds=known_kinds(),
            machines=machines,
            filers=github.filer,
            api=config.api_url,
            private=config.private,
            notifications=self._service.notifications if self._service is not None else None,
            health=self._service.health if self._service is not None else None,
            welcome=self._service is None or self._service.welcome,
            github=GitHubUse(api_url=config.api_url, token_for=github.token_for, watch=lambda: github.watch),
            testflinger=self._testflinger.use,
        )

    def _launcher(self) -> Launcher:
        """Return what starts the pytest of cycles' rounds."""
        from pytest_dispatch.lab_program.round_process import RoundLauncher  # loaded by services alone
        from pytest_dispatch.server.auth.round_tokens import RoundTokens

        self._rounds = RoundTokens()
        return RoundLauncher(Path(self._config.cache) / "rounds", self._reached_at, self._rounds)

    def _reached_at(self) -> str:
        """Return the address by which programs on this computer reach the API."""
        service = self._service
        return (service.access.public_url if service is not None else "") or self.url

    async def _stop(self, lab: Lab, server: LabServer, bytes_cache: AssetFetcher) -> None:
        outbox = lab.issues.status()
        self.end = Stopped(pending=outbox.pending, unfiled=outbox.unfiled)
        ends = await asyncio.gather(lab.stop(), server.stop(), return_exceptions=True)
        await bytes_cache.aclose()
        for end in ends:
            if isinstance(end, Exception):
                raise LabError(f"not everything could be stopped: {type(end).__name__}: {end}") from end

    def _history_sweep(self, lab: Lab, github: GitHubAccess) -> HistorySweep | None:
        """Return what deletes old runs of a service, and allow reloads from now on; None for a private lab."""
        if self._service is None or not isinstance(self._access, ServiceAccess):
            return None
        from pytest_dispatch.lab.history_sweep import HistorySweep
        from pytest_dispatch.lab_program.service_reload import ServiceReload

        lab.history.keep = self._service.keep
        sweep = HistorySweep(lab.lab_state, lab.history, self._service.keep)
        self._reload = ServiceReload(
            self._service, self._access, lab.notifier, github, self._testflinger, sweep, lab.queue
        )
        return sweep

    def _read_anew(self) -> Configuration:
        if self._reload is None:
            raise LabError("expected a service that has started, got one that starts; reload it later")
        return self._reload.read()

    async def _listening(self, lab: Lab, journal: Journal, interrupted: SessionRecord | None) -> LabServer:
        """Start the server; if any port will do, prefer that to which an interrupted session's machines report.

        Raises:
            LabError: The port is in use, and machines of the interrupted session have yet to report to it.
        """
        if interrupted is None:
            return await self._serve(lab, self._config.port)
        try:
            return await self._serve(lab, self._config.port or interrupted.port)
        except LabError as error:
            if self._config.port or not _is_taken(error):
                raise
        await _refuse_to_move(journal, interrupted, self._config.host)
        server = await self._serve(lab, 0)
        moved = f"port {interrupted.port} of the interrupted session is taken: it goes on at port {server.port}"
        self.damage = "; ".join(filter(None, [self.damage, moved]))
        return server

    async def _serve(self, lab: Lab, port: int) -> LabServer:
        config = self._config
        service = self._service
        named = tuple(map(ip_network, config.allow))
        driven = config.machines or (service is not None and any(each.driver for each in service.roster.machines))
        allow = named or (() if driven else None)  # the lab's own machines have tokens and need no address
        where = Address(
            host=config.host,
            port=port,
            path=config.path,
            allow=allow,
            tools=config.boot_tools,
            announce=config.announce,
        )
        api = None
        if service is not None:
            api = ApiAddress(
                host=service.api_host,
                port=service.api_port,
                certificate=service.api_certificate,
                origins=service.cors_origins,
            )
        bounds = service.bounds if service is not None else None
        server = LabServer(lab, where, self._access, bounds, api, self._metrics)
        await server.start()
        self._server = server
        return server

    def _metrics_of(self, lab: Lab, github: GitHubAccess) -> Metrics | None:
        """Return the metrics of a service; None for a private lab, or without the package for them."""
        if self._service is None or find_spec("prometheus_client") is None:
            return None
        from pytest_dispatch.server.metrics import Metrics

        metrics = Metrics()
        metrics.watch(lab, lambda: github.requests_left(each.remaining for each in lab.at_github))
        return metrics

    async def _begin_access(self, parts: ExitStack, lab: Lab) -> None:
        """Set who has access to the lab's API."""
        if self._config.private:
            self._access = PrivateAccess(self.token)
            return
        from pytest_dispatch.server.auth.settings import AccessSettings

        settings = self._service.access if self._service else AccessSettings()
        access = ServiceAccess(lab.lab_state, self.token, settings, rounds=self._rounds)
        parts.callback(access.close)
        await access.open()
        link = await access.administrator_link()
        self.sign_in_path = f"{PREFIX}{link}" if link else ""
        lab.watch(asyncio.create_task(access.look_after(), name="the look at users"))
        self._access = access

    def _addressed(self, pending: PendingIssue) -> PendingIssue:
        """Return the issue with the URL of its GitHub API, which earlier versions did not store.

        A pending issue without a URL may belong to any GitHub. This session's GitHub is a safe choice only if it is
        for the repository to which this session files its own issues: its readers may read it too.
        """
        if pending.api or pending.repo != self._config.issues_repo:
            return pending
        return replace(pending, api=self._config.api_url)


async def _nothing() -> None:
    """Return at once: it shows that the event loop runs."""


def _is_taken(error: LabError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE


async def _refuse_to_move(journal: Journal, interrupted: SessionRecord, host: str) -> None:
    """Refuse another port if machines on the network have yet to report to the old one.

    The lab's own machines are started again, and so learn the new port.

    Raises:
        LabError: Such machines have yet to report.
    """
    last = [run.attempt for run in await journal.background.runs(interrupted.id) if run.outcome is None]
    placements = [placement for attempt in last for placement in attempt.placements]
    waited_for = sorted({each.machine for each in placements if each.known_by is KnownBy.ADDRESS})
    if waited_for and not journal.damage:  # after damage, the runs on these machines no longer count
        names = plain_line(", ".join(waited_for), 120)
        raise LabError(
            f"cannot listen on port {interrupted.port} of {host}, where the interrupted session has still to hear from"
            f" {names}: another program listens there; end that, or start without --dispatch-resume"
        )
