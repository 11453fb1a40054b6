"""Reads the query parameters of requests."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from pytest_dispatch.core.media import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web


def number(request: web.Request, name: str, default: float) -> float:
    """Return a query parameter that is a number.

    Raises:
        msgspec.ValidationError: It is none.
    """
    return next(numbers(request, name), default)


def numbers(request: web.Request, name: str) -> Iterator[float]:
    """Yield the values of a query parameter that may be given several times, all of them numbers.

    Raises:
        msgspec.ValidationError: One of them is none.
    """
    for given in request.query.getall(name, []):
        try:
            found = float(given)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            raise msgspec.ValidationError(f"query parameter {name}: expected a number, got {given!r}")
        yield found


def whole(request: web.Request, name: str, default: int, what: str = "a whole number") -> int:
    """Return a query parameter that is a whole number from 0 on.

    Raises:
        msgspec.ValidationError: It is none.
    """
    found = float(number(request, name, default))
    if not (0 <= found < MOST_BYTES and found.is_integer()):
        raise msgspec.ValidationError(f"query parameter {name}: expected {what}, got {found!r}")
    return int(found)
