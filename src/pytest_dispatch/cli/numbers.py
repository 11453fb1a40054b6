"""Numbers on a command line, which are within limits."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return what reads a number from `least` to `most`."""
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        try:
            given = int(text)
        except ValueError:
            given = least - 1
        if given < least or (most is not None and given > most):
            raise ArgumentTypeError(f"expected a number {limits}, got {text!r}")
        return given

    return read
