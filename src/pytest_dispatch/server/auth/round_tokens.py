"""Tokens for the pytest of rounds: in memory alone, each for one process, and gone with it."""

from __future__ import annotations

import secrets

from pytest_dispatch.core.cycle_state import user_of
from pytest_dispatch.server.auth.credentials import digest_of
from pytest_dispatch.server.auth.principals import Principal, Way
from pytest_dispatch.server.auth.roles import Role


class RoundTokens:
    """Gives tokens to rounds, and knows whose they are."""

    def __init__(self) -> None:
        self._given: dict[str, Principal] = {}  # by digest

    def give(self, cycle: str, group: str) -> str:
        """Return a new token of an operator, confined to a group if one is named."""
        secret = secrets.token_urlsafe(32)
        groups = frozenset((group,)) if group else None
        name = user_of(cycle)
        self._given[digest_of(secret)] = Principal(
            name=name, role=Role.OPERATOR, groups=groups, way=Way.TOKEN, key=name
        )
        return secret

    def take(self, secret: str) -> None:
        """Make a token worthless; one that is already is no fault."""
        self._given.pop(digest_of(secret), None)

    def find(self, secret: str) -> Principal | None:
        """Return whose token this is; None if it is none of these."""
        return self._given.get(digest_of(secret))

    def all(self) -> list[Principal]:
        """Return whose tokens are in force."""
        return list(self._given.values())
