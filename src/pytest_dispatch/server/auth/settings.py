"""What a service's configuration says of its users, and of the way to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_dispatch.core.secrets import PUBLIC_API
from pytest_dispatch.server.auth.roles import Role

DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredUser:
    """A user of the configuration.

    Attributes:
        password: The password, or its argon2 hash.
    """

    name: str
    password: str = field(repr=False)
    role: Role = Role.READER


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubSignIn:
    """Signing in by GitHub: a user has the highest role that one of the mappings gives.

    Attributes:
        client_id: Client id of the OAuth App.
        client_secret: Its secret.
        url: The GitHub to sign in at.
        api_url: Base of its API.
        organizations: Roles by organisation.
        teams: Roles by team, as ORGANIZATION/TEAM.
        logins: Roles by login.
    """

    client_id: str
    client_secret: str = field(repr=False)
    url: str = "https://github.com"
    api_url: str = PUBLIC_API
    organizations: Mapping[str, Role] = field(default_factory=dict)
    teams: Mapping[str, Role] = field(default_factory=dict)
    logins: Mapping[str, Role] = field(default_factory=dict)

    @property
    def roles(self) -> frozenset[Role]:
        """Return the roles that somebody may have who signs in by GitHub."""
        return frozenset((*self.organizations.values(), *self.teams.values(), *self.logins.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The files of a certificate, in PEM.

    Attributes:
        certificate: The certificate and those that signed it.
        key: Its private key, without a password.
    """

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Who may use a service, and by which way.

    Attributes:
        users: Users with a password, beside those whom an administrator makes.
        github: How to sign in by GitHub; None for not at all.
        session_ttl: Seconds that a browser stays signed in.
        audit_kept: Seconds that entries of the audit log are kept; None for ever.
        tls: Certificate of the API and the pages.
        trusted_proxies: Networks of proxies whose headers about their clients count.
        public_url: URL by which people reach the lab; empty for the address of its API.
        insecure: Serve the API beyond loopback without TLS.
    """

    users: tuple[ConfiguredUser, ...] = ()
    github: GitHubSignIn | None = None
    session_ttl: float = DAY
    audit_kept: float | None = None
    tls: TlsFiles | None = None
    trusted_proxies: tuple[str, ...] = ()
    public_url: str = ""
    insecure: bool = False
