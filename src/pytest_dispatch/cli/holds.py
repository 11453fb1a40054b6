"""What commands that hold something have in common: a reason, and an end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import argument
from pytest_dispatch.cli.state_colors import hold_text
from pytest_dispatch.cli.times import read_span
from pytest_dispatch.client.request_values import asked_for
from pytest_dispatch.server.api.group_schemas import HoldWanted

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_dispatch.core.machine import Hold

HOLD = (
    argument("reason", metavar="REASON", nargs="+", help="why, in words for other people"),
    argument("--for", dest="span", metavar="DURATION", default="", help="until it ends by itself: 30m, 8h, 7d"),
)


def instead_of(before: Hold | None) -> str:
    """Return which hold another one has taken the place of, as a clause."""
    if before is None:
        return ""
    return f"; until now it was held: {hold_text(before)}{'' if before.until is not None else ', for ever'}"


def hold_wanted(given: Namespace) -> HoldWanted:
    """Return the hold that a command wants.

    Raises:
        ConfigError: Its span is none.
    """
    ends = time.time() + read_span(given.span, "--for") if given.span else None
    return asked_for(HoldWanted, reason=" ".join(given.reason), until=ends)
