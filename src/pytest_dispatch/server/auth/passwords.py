"""Passwords, kept as argon2 hashes (RFC 9106). Checking one takes a tenth of a second, in a thread."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.server.auth.errors import TooManyError
from pytest_dispatch.support.blocking import Stop, Threads

if TYPE_CHECKING:
    from argon2 import PasswordHasher

AT_ONCE = 2  # passwords checked at once; each takes 64 MiB
WAITING = 32  # most that wait for their check
SHORTEST, LONGEST = 10, 1000  # characters of a new password

_PHC = "$argon2"  # how a hash begins


@dataclass(frozen=True, slots=True)
class Cost:
    """What a check costs; the default is the one of RFC 9106 for little memory.

    Attributes:
        time: Passes.
        memory: KiB.
        lanes: Threads.
    """

    time: int = 3
    memory: int = 65536
    lanes: int = 4


class Passwords:
    """Hashes and checks passwords. Call `close` after use.

    Args:
        cost: What a check costs.
    """

    def __init__(self, cost: Cost | None = None) -> None:
        self._cost = cost or Cost()
        self._threads = Threads("dispatch-password")
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._nobodys = ""

    async def hashed(self, password: str) -> str:
        """Return the hash of a password.

        Raises:
            TooManyError: Too many others are being checked.
        """
        return await self._checked(password, None)

    async def matches(self, kept: str, password: str) -> bool:
        """Return whether a password has this hash; for an empty hash, return False after as long a time.

        Raises:
            TooManyError: Too many others are being checked.
        """
        if not kept:
            self._nobodys = self._nobodys or await self.hashed("nobody's password")
            await self._checked(password, self._nobodys)
            return False
        return bool(await self._checked(password, kept))

    def close(self) -> None:
        """Let the threads end."""
        self._threads.close()

    async def _checked(self, password: str, kept: str | None) -> str:
        if self._waiting >= WAITING:
            raise TooManyError("too many people sign in at once; try again in a moment", 1.0)
        self._waiting += 1
        try:
            async with self._turn:
                return await self._threads.run(_work, _hasher(self._cost), password, kept)
        finally:
            self._waiting -= 1


def is_hash(text: str) -> bool:
    """Return whether a configured password is the hash of one."""
    return text.startswith(_PHC)


def check_new(password: str) -> None:
    """Refuse a password that is too easy to guess.

    Raises:
        ConfigError: It is too short, or too long.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(f"expected a password of {SHORTEST} to {LONGEST} characters, got {len(password)}")


def _hasher(cost: Cost) -> PasswordHasher:
    try:
        from argon2 import PasswordHasher
    except ImportError:
        raise ConfigError(
            "passwords need argon2-cffi, which this Python does not have; install with"
            " pip install 'pytest-dispatch[serve]'"
        ) from None
    return PasswordHasher(time_cost=cost.time, memory_cost=cost.memory, parallelism=cost.lanes)


def _work(_stop: Stop, hasher: PasswordHasher, password: str, kept: str | None) -> str:
    """Return the hash of a password; given a hash, return it if the password matches, else an empty text."""
    from argon2.exceptions import InvalidHashError, VerificationError

    given = password.encode(errors="surrogatepass")
    if kept is None:
        return hasher.hash(given)
    try:
        hasher.verify(kept, given)
    except (VerificationError, InvalidHashError):
        return ""
    return kept
