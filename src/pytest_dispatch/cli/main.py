"""The command `dispatch`: runs a lab, asks one, and maintains its journal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pytest_dispatch.cli.commands import COMMANDS
from pytest_dispatch.cli.exit_codes import Code, tell
from pytest_dispatch.cli.leading_options import EVERYWHERE, leading_options
from pytest_dispatch.core.errors import ConfigError, DispatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

_OTHER_NAMES = {"-h": "help", "--help": "help", "-V": "version", "--version": "version"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 on success, 1 on an error, 2 for wrong usage, 3 if no lab answers or it does not know who asks.
    """
    if "_ARGCOMPLETE" in os.environ:
        from pytest_dispatch.cli.completion import complete

        complete()
    words = list(sys.argv[1:] if argv is None else argv) or ["help"]
    try:
        code = _run(_OTHER_NAMES.get(words[0], words[0]), words)
        sys.stdout.flush()
    except DispatchError as error:
        return tell(error)
    except BrokenPipeError:  # whoever reads has read enough, such as `head`
        _print_no_more()
        return Code.DONE
    except OSError as error:
        if not _cannot_print():
            raise
        _print_no_more()
        return tell(DispatchError(f"what it says cannot be written: {error.strerror}"))
    except KeyboardInterrupt:
        return Code.INTERRUPTED
    return code


def _cannot_print() -> bool:
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _print_no_more() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(name: str, words: list[str]) -> int:
    if name == "help":
        return _help(words[1:])
    if name.partition("=")[0] in EVERYWHERE:
        first, rest = leading_options(words)
        if not rest:
            raise ConfigError(f"expected a command after {first[0]}, got none; see `dispatch --help`")
        return _run(_OTHER_NAMES.get(rest[0], rest[0]), [rest[0], *first, *rest[1:]])
    if name.startswith("-"):
        from pytest_dispatch.cli.release import release

        return release(words)
    if name not in COMMANDS:
        raise _no_command(name)
    return COMMANDS[name].run(words[1:])


def _no_command(name: str) -> ConfigError:
    from pytest_dispatch.core.nearest import did_you_mean

    if asked := did_you_mean(name, COMMANDS):
        return ConfigError(f"no command {name!r}: {asked} See `dispatch --help`")
    return ConfigError(f"expected one of {', '.join(COMMANDS)}, got {name!r}; see `dispatch --help`")


def _help(words: Sequence[str]) -> int:
    _, words = leading_options(words)
    if words and words[0] not in ("help", *_OTHER_NAMES):
        return _run(words[0], [*words, "--help"])
    print("usage: dispatch COMMAND …        see `dispatch COMMAND --help`")
    print("       dispatch --owner OWNER --repo REPO --tag TAG [WORKLOAD …]\n")
    for name, command in COMMANDS.items():
        print(f"  {name:<12}{command.help}")
    return Code.DONE


if __name__ == "__main__":
    sys.exit(main())
