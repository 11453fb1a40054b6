"""A lab inside this process: built from a configuration, and run in a separate thread."""

from __future__ import annotations

import asyncio
import errno
import secrets
import shutil
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib.metadata import entry_points
from ipaddress import ip_network
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.core.clock import SteadyClock
from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError, MachineError
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.core.plain_text import plain_line, what_was_raised
from pytest_dispatch.core.secrets import blotted
from pytest_dispatch.lab.lab import Lab
from pytest_dispatch.lab_program.config import LabConfig
from pytest_dispatch.lab_program.messages import Stopped
from pytest_dispatch.server.app import LabServer
from pytest_dispatch.server.boot.path import Address
from pytest_dispatch.sources.asset_fetcher import AssetFetcher
from pytest_dispatch.sources.locations import Locations
from pytest_dispatch.store.journal import Journal, PendingIssue, SessionRecord, session_row
from pytest_dispatch.support.event_loop import LoopThread
from pytest_dispatch.workloads.registry import known_kinds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_dispatch.github.issue_filer import GitHubFiler
    from pytest_dispatch.lab.outbox import Filer
    from pytest_dispatch.machines.base import DrivenMachine, Factory, Spec

START = 30.0  # longest start, in seconds
STOP = 2.0  # longest stop, in seconds
GOODBYE = 1.0  # longest time to withdraw the mDNS announcement, in seconds

GROUP = "pytest_dispatch.machines"


class InProcessLab:
    """A lab in a thread. Call `start`, use its `url` and `token`, then call `stop`.

    Args:
        config: The lab's configuration.

    Attributes:
        token: Bearer token of the API.
        url: `http://HOST:PORT` of the lab, as seen from this computer.
        damage: A repaired problem with the journal or the port, in words; empty if there was none.
        end: The outbox's state when the lab stopped; None until then.
    """

    def __init__(self, config: LabConfig) -> None:
        self._config = config
        self._loop = LoopThread()
        self._parts = ExitStack()
        self._lab: Lab | None = None
        self._server: LabServer | None = None
        self.token = secrets.token_urlsafe(24)
        self.url = ""
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
            machines = told_apart(made)
            journal = Journal(self._config.db)
            parts.callback(journal.close)
            journal.open()
            self.damage = journal.damage
            self._loop.start()
            parts.callback(self._loop.stop)
            self._loop.call(lambda: self._start(parts, journal, machines, source), START)
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
        source: str,
    ) -> None:
        config = self._config
        bytes_cache = AssetFetcher(config.cache, config.cache_limit, config.token)
        filers = _Filers(config)
        parts.callback(filers.close)
        lab = Lab(
            clock=SteadyClock(),
            journal=journal,
            cache=bytes_cache,
            locations=replace(config.locations, apis=(*config.locations.apis, config.api_url)),
            kinds=known_kinds(),
            machines=machines,
            filers=filers,
            api=config.api_url,
            private=config.private,
        )
        self._lab = lab
        lab.queue.sessions.expecting = config.private
        interrupted = await journal.background.last_unfinished(source) if config.resume else None
        pending_issues = await journal.background.pending_issues()  # before there can be new ones
        server = await self._listening(lab, journal, interrupted)

        async def stop() -> None:
            outbox = lab.issues.status()
            self.end = Stopped(pending=outbox.pending, unfiled=outbox.unfiled)
            ends = await asyncio.gather(lab.stop(), server.stop(), return_exceptions=True)
            await bytes_cache.aclose()
            for end in ends:
                if isinstance(end, Exception):
                    raise LabError(f"not everything could be stopped: {type(end).__name__}: {end}") from end

        parts.callback(lambda: self._loop.call(stop, STOP))
        if interrupted is not None and interrupted.port != server.port:  # a later resume needs the new port
            await asyncio.wrap_future(journal.write([session_row(replace(interrupted, port=server.port))]))
        await bytes_cache.open()
        self.url = server.url
        await lab.start(server.machine_url, [self._addressed(pending) for pending in pending_issues])

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
        named = tuple(map(ip_network, config.allow))
        allow = named or (() if config.machines else None)  # the lab's own machines have tokens and need no address
        where = Address(
            host=config.host,
            port=port,
            path=config.path,
            allow=allow,
            tools=config.boot_tools,
            announce=config.announce,
        )
        server = LabServer(lab, where, self.token)
        await server.start()
        self._server = server
        return server

    def _addressed(self, pending: PendingIssue) -> PendingIssue:
        """Return the letter with the URL of its GitHub API, which earlier versions did not store.

        A letter without a URL may belong to any GitHub. This session's GitHub is a safe choice only if the letter is
        for the repository to which this session files its own issues: its readers may read the letter too.
        """
        if pending.api or pending.repo != self._config.issues_repo:
            return pending
        return replace(pending, api=self._config.api_url)


class _Filers:
    """Filers by repository: for this session's issues, and for those left by earlier sessions."""

    def __init__(self, config: LabConfig) -> None:
        self._config = config
        self._open: dict[str, GitHubFiler] = {}

    def __call__(self, repo: str) -> Filer | None:
        """Return the repository's filer; None without a token."""
        if self._config.token is None:
            return None
        if repo not in self._open:
            from pytest_dispatch.github.issue_filer import GitHubFiler

            self._open[repo] = GitHubFiler(repo, self._config.token, self._config.api_url)
        return self._open[repo]

    def close(self) -> None:
        """Close the filers' connections."""
        for filer in self._open.values():
            filer.close()


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


def told_apart(machines: Iterable[DrivenMachine]) -> list[DrivenMachine]:
    """Return them, but those whose name another has with the next one: every SPEC of a scheme counts from 1."""
    taken: dict[str, DrivenMachine] = {}
    for machine in machines:
        name, number = machine.name, count(1)
        stem = name.rpartition("-")[0] or name
        while name in taken:
            name = f"{stem}-{next(number)}"
        taken[name] = replace(machine, name=name)
    return list(taken.values())


def make_machines(spec: Spec, state: Path) -> list[DrivenMachine]:
    """Make the machines of a SPEC, by whichever package offers its scheme.

    Raises:
        ConfigError: None does, or the SPEC has not what its driver needs.
        MachineError: Something that the driver needs is missing.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    if spec.scheme not in found:
        raise ConfigError(f"--dispatch-machine: expected one of {', '.join(sorted(found))}, got {spec.text!r}")
    factory: Factory = found[spec.scheme].load()
    try:
        made = factory(spec, state)
    except Exception as error:
        said = str(error) if isinstance(error, DispatchError) else what_was_raised(error)
        if (told := blotted(said, spec.secrets)) == said:
            raise
        raise (ConfigError if isinstance(error, ConfigError) else MachineError)(told) from None
    return [
        replace(
            machine,
            name=machine.name or f"{spec.scheme}-{number}",
            labels={**machine.labels, **spec.labels},
            address=address,
            secrets=(*machine.secrets, *spec.secrets),
        )
        for number, (machine, address) in enumerate(zip(made, _addresses(spec, made), strict=True), start=1)
    ]


def _addresses(spec: Spec, machines: Sequence[DrivenMachine]) -> Sequence[str]:
    """Return the address of each machine; empty for those that are known by their boot URL.

    Raises:
        ConfigError: There are not as many as there are machines that need one.
    """
    without = [machine for machine in machines if machine.boot is None]
    if len(spec.addresses) != len(without):
        raise ConfigError(
            f"--dispatch-machine {spec.text}: expected address= with {len(without)} of its {len(machines)} machines'"
            f" addresses (those without boot control are known by them), got {len(spec.addresses)}"
        )
    given = iter(spec.addresses)
    return [next(given) if machine.boot is None else "" for machine in machines]
