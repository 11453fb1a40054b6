"""The tokens by which machines of our own are known.

A token is in a machine's boot URL, and so every workload that runs there has it, with no way to take it back. It is
therefore good until the machine is powered on again, and then replaced: what comes with an old one may still tell what
ran before, and nothing else.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

SIZE = 16  # random bytes of a token


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose token it is, and when it was replaced; infinity if it was not."""

    machine: str
    until: float = math.inf


class Tokens:
    """Every token of a lab, in use or replaced."""

    def __init__(self) -> None:
        self._bearers: dict[str, Bearer] = {}
        self._latest: dict[str, str] = {}

    def renew(self, machine: str, now: float) -> str:
        """A new token for this machine, in place of the one that it had."""
        old = self._latest.get(machine)
        if old is not None:
            self._bearers[old] = Bearer(machine, now)
        token = self._latest[machine] = secrets.token_urlsafe(SIZE)
        self._bearers[token] = Bearer(machine)
        return token

    def bearer(self, token: str) -> Bearer | None:
        """Whose token this is or was; None if it is none of ours."""
        return self._bearers.get(token)
