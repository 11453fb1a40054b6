"""Which keys of a service's configuration count while it runs, and what has them count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.lab.roster import Configuration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pytest_dispatch.core.queue import Queue
    from pytest_dispatch.lab.history_sweep import HistorySweep
    from pytest_dispatch.lab.notifier import Notifier
    from pytest_dispatch.lab_program.github_access import GitHubAccess
    from pytest_dispatch.lab_program.service_config import ServiceConfig
    from pytest_dispatch.lab_program.testflinger_access import TestflingerAccess
    from pytest_dispatch.server.auth.authentication import ServiceAccess

#: Keys that can count at once, by what they are about. All others need a restart.
ACCESS = frozenset(("auth.users", "auth.github", "auth.session_ttl", "retention.audit"))
TOLD = frozenset(("notifications.targets", "notifications.queue_wait", "notifications.session_schemes"))
GITHUB = frozenset(("github.tokens", "github.apps", "github.issue_repositories"))
WATCH = frozenset(("github.polling", "github.webhook_secret"))
FARM = frozenset(("testflinger.interval", "testflinger.webhook_secret"))
SWEPT = frozenset(("retention.runs", "retention.consoles", "retention.texts"))
HEALTH = frozenset(("health.faults", "health.again", "health.run_hold"))
UNKNOWN = frozenset(("server.unknown_machines",))
AT_ONCE = ACCESS | TOLD | GITHUB | WATCH | FARM | SWEPT | HEALTH | UNKNOWN

#: What is of one GitHub or one Testflinger; with another one, it counts after the restart that brings that.
_OF_ONE = {"github.api_url": GITHUB | WATCH | {"auth.github"}, "testflinger.url": FARM}


@dataclass(slots=True)
class ServiceReload:
    """Reads a service's configuration anew, and applies it to those parts that can take it while they run.

    Attributes:
        service: The configuration that counts.
    """

    service: ServiceConfig
    access: ServiceAccess
    notifier: Notifier
    github: GitHubAccess
    testflinger: TestflingerAccess
    sweep: HistorySweep
    queue: Queue

    def read(self) -> Configuration:
        """Return what the configuration says now; blocks.

        Raises:
            ConfigError: It cannot be used.
        """
        if self.service.read is None:
            raise ConfigError("expected a lab with a configuration file, got one without; start it with --config FILE")
        new, old = self.service.read(), self.service.keys
        different = {key for key, value in new.keys.items() if old[key] != value}
        at_once = different & AT_ONCE
        for address, of_it in _OF_ONE.items():
            if address in different:
                at_once -= of_it

        async def prepare() -> Callable[[], Awaitable[None]]:
            return await self._prepared(new, at_once)

        return Configuration(
            roster=new.roster,
            keys=tuple(sorted(at_once)),
            restart=tuple(sorted(different - at_once)),
            prepare=prepare,
        )

    async def _prepared(self, new: ServiceConfig, keys: set[str]) -> Callable[[], Awaitable[None]]:
        """Return what applies these keys.

        Raises:
            ConfigError: They cannot be used.
        """
        access = new.access if "auth.github" in keys else replace(new.access, github=self.service.access.github)
        apply_access = await self.access.prepared(access) if keys & ACCESS else None

        async def apply() -> None:
            known = {**self.service.keys, **{key: new.keys[key] for key in keys}}
            self.service = replace(self.service, access=access, keys=known)
            for about, part in _PARTS:
                if keys & about:
                    part(self, new)
            if apply_access is not None:
                await apply_access()

        return apply


def _heed(lab: ServiceReload, new: ServiceConfig) -> None:
    """Hold machines and runs by new rules, from the next fault or check on."""
    lab.queue.health.rules = new.health


def _watch(lab: ServiceReload, new: ServiceConfig) -> None:
    """Learn in another way what changes at GitHub, from the next look or webhook on."""
    lab.github.watch = new.watch


#: What makes keys count that are neither of the roster nor of access.
_PARTS: Sequence[tuple[frozenset[str], Callable[[ServiceReload, ServiceConfig], None]]] = (
    (GITHUB, lambda lab, new: lab.github.renew(new)),
    (WATCH, _watch),
    (FARM, lambda lab, new: lab.testflinger.renew(new.testflinger)),
    (TOLD, lambda lab, new: lab.notifier.replan(new.notifications)),
    (SWEPT, lambda lab, new: lab.sweep.keep(new.keep)),
    (HEALTH, _heed),
    (UNKNOWN, lambda lab, new: lab.queue.unknown.let_in(welcome=new.welcome)),
)
