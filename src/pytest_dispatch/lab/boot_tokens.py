"""The tokens that identify the lab's own machines.

A token is part of a machine's boot URL, so the workload booted from that URL knows it, and this cannot be undone. A
token is therefore valid for one boot. Then it is replaced; after that, it may still be used to report on what ran
before, and for nothing else. Until then it fetches a single attempt: to get the next one, the machine has to boot
again.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from dataclasses import dataclass

from pytest_dispatch.core.model import KnownBy

SIZE = 16  # random bytes in a token
KEPT = 8  # replaced tokens known per machine; a report may arrive after the next boot, rarely later


class UsedError(Exception):
    """A boot URL was requested again after its boot was over."""

    def __init__(self) -> None:
        super().__init__("this boot URL is of an earlier boot: the machine has another one for each")


@dataclass(slots=True, eq=False)
class BootIdentity:
    """The caller of a request: a machine and, if the lab starts it, the state of the token that it presented.

    Attributes:
        machine: Whose token it is.
        until: When it was replaced; infinity if it was not, or if the machine is known by its address.
        got: What was fetched with it: a run, and the number of its attempt.
        since: When the machine began to boot, the first time since it fetched anything.
        by_token: It showed one.
        asked: It was asked with.
        warned: The machine's console tells that it was used once more after its boot.
    """

    machine: str
    until: float = math.inf
    got: tuple[str, int] | None = None
    since: float = 0.0
    by_token: bool = False
    asked: bool = False
    warned: bool = False

    @property
    def known_by(self) -> KnownBy:
        """Return how the machine is recognised."""
        return KnownBy.TOKEN if self.by_token else KnownBy.ADDRESS

    @property
    def replaced(self) -> bool:
        """Return whether the token was replaced, so that its boot is over."""
        return self.until < math.inf


class BootTokens:
    """The tokens of a lab's machines: those in use, and the latest that were replaced."""

    def __init__(self) -> None:
        self._bearers: dict[str, BootIdentity] = {}
        self._of: dict[str, deque[str]] = {}
        self._armed: dict[str, str] = {}  # the next token of a machine, by machine

    def __len__(self) -> int:
        return len(self._bearers)

    def arm(self, machine: str) -> str:
        """Return a token for the machine's next boot, which begins when it is first asked with."""
        self._armed[machine] = secrets.token_urlsafe(SIZE)
        return self._armed[machine]

    def renew(self, machine: str, now: float, token: str = "") -> str:
        """Return a token for this machine, which boots anew, in place of the one that it had; a new one if not this."""
        self._armed.pop(machine, None)
        known, last = self._of.setdefault(machine, deque()), self.present(machine)
        since = now if last is None or last.got else last.since
        if last is not None:
            last.until = now
        if len(known) > KEPT:
            del self._bearers[known.popleft()]
        token = token or secrets.token_urlsafe(SIZE)
        known.append(token)
        self._bearers[token] = BootIdentity(machine, since=since, by_token=True)
        return token

    def present(self, machine: str) -> BootIdentity | None:
        """Return the state of a machine's current token; None if it never had one."""
        known = self._of.get(machine)
        return self._bearers[known[-1]] if known else None

    def begin(self, token: str, now: float) -> None:
        """Let the boot begin that this token was made for beforehand, if it was."""
        for machine in [machine for machine, armed in self._armed.items() if armed == token]:
            self.renew(machine, now, token)

    def bearer(self, token: str) -> BootIdentity | None:
        """Return whose token this is or was lately; None if it is none of ours."""
        return self._bearers.get(token)
