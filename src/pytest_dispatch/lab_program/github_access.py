"""What a lab may do at GitHub, and with whose token: read release assets, and file issues."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_dispatch.lab.external_systems import GitHubWatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_dispatch.core.secrets import Token
    from pytest_dispatch.github.issue_filer import GitHubFiler
    from pytest_dispatch.lab.outbox import Filer
    from pytest_dispatch.lab_program.config import LabConfig
    from pytest_dispatch.lab_program.service_config import ServiceConfig


class GitHubAccess:
    """Tokens by owner, and filers by repository: for this session's issues, and for those left by earlier sessions.

    Args:
        config: The lab's configuration.
        service: What it has as a service; None for a private lab.

    Attributes:
        watch: How it learns what changes there.
    """

    def __init__(self, config: LabConfig, service: ServiceConfig | None = None) -> None:
        self._api_url = config.api_url
        self._token = config.token
        self._service = service
        self.watch = service.watch if service is not None else GitHubWatch(interval=config.poll_interval)
        self._filers: dict[str, GitHubFiler] = {}
        self._earlier: list[GitHubFiler] = []

    def renew(self, service: ServiceConfig) -> None:
        """Use the tokens of a new configuration from now on, and no other; what is being filed is filed as begun."""
        self._service, self._token = service, None
        self._earlier += self._filers.values()
        self._filers = {}

    def token_for(self, owner: str) -> Token | None:
        """Return the token for what belongs to an owner; None if there is none."""
        named = self._service.token_for(owner) if self._service is not None else None
        return named or self._token

    def filer(self, repo: str) -> Filer | None:
        """Return the filer of a repository; None without a token that may be used for it."""
        service = self._service
        may_file = service is None or repo.lower() in {each.lower() for each in service.issue_repositories}
        token = self.token_for(repo.partition("/")[0]) if may_file else None
        if token is None:
            return None
        if repo not in self._filers:
            from pytest_dispatch.github.issue_filer import GitHubFiler

            self._filers[repo] = GitHubFiler(repo, token, self._api_url)
        return self._filers[repo]

    def requests_left(self, of_kinds: Iterable[int | None]) -> dict[str, int]:
        """Return how many requests each GitHub still answers, by host; the fewest, of several tokens.

        Args:
            of_kinds: How many it answers to the lab's kinds, for each of their tokens; None where it has not said so.
        """
        told = (*(filer.requests_left for filer in self._filers.values()), *of_kinds)
        left = [each for each in told if each is not None]
        return {urlsplit(self._api_url).netloc: min(left)} if left else {}

    def close(self) -> None:
        """Close the filers' connections."""
        for filer in (*self._filers.values(), *self._earlier):
            filer.close()
