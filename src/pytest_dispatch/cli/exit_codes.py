"""What `dispatch` ends with: 0 if it is done, and a code for each kind of error."""

from __future__ import annotations

import sys
from enum import IntEnum

from pytest_dispatch.core.errors import ConfigError, DispatchError


class Code(IntEnum):
    """Exit codes."""

    DONE = 0
    FAILED = 1  # the lab refused, or the command failed
    USAGE = 2  # the command line or a file of the user's is wrong
    NO_LAB = 3  # no lab answers, or it does not know who asks
    INTERRUPTED = 130  # Ctrl-C, as shells count it


class NoLabError(DispatchError):
    """No lab answers, or it does not know who asks."""


def code_of(error: DispatchError) -> Code:
    """Return the exit code for an error."""
    if isinstance(error, ConfigError):
        return Code.USAGE
    return Code.NO_LAB if isinstance(error, NoLabError) else Code.FAILED


def tell(error: DispatchError) -> Code:
    """Print an error in one line, with the names of this command's options, and return the exit code."""
    said = (
        f"dispatch: {error}".replace("--dispatch-db or --db", "--db")
        .replace("--dispatch-", "--")
        .replace("dispatch_cache_limit", "--cache-limit")
    )
    of_files = error.problems if isinstance(error, ConfigError) else ()
    print("\n".join(of_files) or said, file=sys.stderr)
    return code_of(error)
