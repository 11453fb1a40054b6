"""Makes what a request asks a lab for; a value that it cannot have is wrong usage, told before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pytest_dispatch.core.errors import ConfigError

P = ParamSpec("P")
T = TypeVar("T")


def asked_for(kind: Callable[P, T], *args: P.args, **values: P.kwargs) -> T:
    """Return a request's content.

    Raises:
        ConfigError: A value cannot be used.
    """
    try:
        return kind(*args, **values)
    except ValueError as error:
        raise ConfigError(str(error)) from None
