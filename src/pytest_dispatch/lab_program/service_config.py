"""What a lab as a service has beside what every lab has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_dispatch.core.errors import DispatchError
from pytest_dispatch.core.health import HealthRules
from pytest_dispatch.core.notifications import NotificationPlan
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.lab.external_systems import GitHubWatch
from pytest_dispatch.lab.history import Keep
from pytest_dispatch.lab.roster import Roster
from pytest_dispatch.lab_program.config import TestflingerServer
from pytest_dispatch.server.auth.settings import AccessSettings
from pytest_dispatch.server.limits.bounds import ServerLimits

ANY_OWNER = "*"  # among the owners of tokens: all that are not named


def _as_it_is(error: DispatchError) -> DispatchError:
    """Return the error of a service without a file, which names options."""
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """The configuration of a service.

    Attributes:
        api_host: Address to listen on for pytest, programs and people.
        api_port: Port to listen on; 0 for a free one.
        access: Who may use the API, and how they sign in.
        cors_origins: Origins of other web pages that may call the API.
        tokens: GitHub tokens by owner, also those of Apps; `*` is for all others.
        issue_repositories: Repositories in which the lab files issues with its own token.
        roster: Machines, groups and templates.
        keys: All other keys of the file with what they say, to be compared.
        read: Reads all of it anew, blocking; None if there is no file to read it from. May raise ConfigError.
        by_key: Returns an error as one that names the key of the file that it is about, and where that stands.
        keep: For how long runs, their consoles and texts are kept.
        bounds: Limits for callers.
        log_json: Whether log records are written as JSON.
        notifications: Who is told of what; sessions may name no one without a file that says so.
        health: When machines are held because of their health.
        welcome: Whether machines that nobody has named may boot without approval.
        watch: How it learns what changes at GitHub.
        testflinger: The server that deployments are submitted to; None if there is none.
    """

    api_host: str = "127.0.0.1"
    api_port: int = 8081
    access: AccessSettings = field(default_factory=AccessSettings)
    cors_origins: tuple[str, ...] = ()
    tokens: Mapping[str, Token] = field(default_factory=dict)
    issue_repositories: tuple[str, ...] = ()
    roster: Roster = field(default_factory=Roster)
    keys: Mapping[str, object] = field(default_factory=dict, repr=False)
    read: Callable[[], ServiceConfig] | None = None
    by_key: Callable[[DispatchError], DispatchError] = field(default=_as_it_is, repr=False)
    keep: Keep = field(default_factory=Keep)
    bounds: ServerLimits = field(default_factory=ServerLimits)
    log_json: bool = False
    notifications: NotificationPlan = field(default_factory=lambda: NotificationPlan(session_schemes=frozenset()))
    health: HealthRules = field(default_factory=HealthRules)
    welcome: bool = False
    watch: GitHubWatch = field(default_factory=GitHubWatch)
    testflinger: TestflingerServer | None = None

    def token_for(self, owner: str) -> Token | None:
        """Return the token for what belongs to an owner at GitHub; None if there is none."""
        by_owner = {name.lower(): token for name, token in self.tokens.items()}
        return by_owner.get(owner.lower(), self.tokens.get(ANY_OWNER))

    @property
    def api_certificate(self) -> tuple[Path, Path] | None:
        """Return the files of the API's certificate and its key; None for plain HTTP."""
        tls = self.access.tls
        return (tls.certificate, tls.key) if tls is not None else None
