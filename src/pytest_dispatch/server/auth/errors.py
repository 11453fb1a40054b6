"""Refusals of requests, each with its status in the API."""

from __future__ import annotations

from pytest_dispatch.core.errors import DispatchError


class UnauthorizedError(DispatchError):
    """Nobody knows who made the request (401)."""


class ForbiddenError(DispatchError):
    """Who made the request may not do that (403)."""


class NoSuchError(DispatchError):
    """There is no user or token of that name (404)."""


class TakenError(DispatchError):
    """The name is taken, or the change would leave something impossible (409)."""


class TooManyError(DispatchError):
    """Too many tries (429).

    Args:
        what: The reason.
        wait: Seconds after which another try may succeed.
    """

    def __init__(self, what: str, wait: float) -> None:
        super().__init__(what)
        self.wait = wait
