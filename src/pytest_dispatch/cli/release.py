"""`dispatch --owner OWNER --repo REPO --tag TAG WORKLOAD…`: runs the pytest that does the same.

This is the command line of the Rust program of the same name (https://github.com/AMDEPYC/dispatch).
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from typing import TYPE_CHECKING

from pytest_dispatch.cli.parser import Parser
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.secrets import HIDDEN, without_userinfo

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

#: What pytest's -k takes as one word.
_WORD = re.compile(r"[\w:+\-.\[\]\\/]+")
#: Options of pytest whose values are secrets as a whole; in others, it is who signs in by a URL.
SECRETS = ("--dispatch-token", "--dispatch-lab-token", "--dispatch-notify")
_SECRET = re.compile(rf"({'|'.join(SECRETS)})(=.*)?", re.DOTALL)
_KEYWORDS = {"and", "or", "not", "none", "true", "false"}


def release(words: Sequence[str]) -> int:
    """Run the workloads of a release, in place of this process.

    Raises:
        ConfigError: The command line is wrong.
    """
    own, more = _split(words)
    command = list(_command(_parser().parse_args(own)))
    print(f"dispatch: {shlex.join(['pytest', *without_secrets([*command, *more])])}", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *command, *more])  # noqa: S606 - no shell is meant


def without_secrets(words: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command line, with `***` for what is a secret."""
    hides = False
    for word in words:
        option = _SECRET.fullmatch(word)
        yield HIDDEN if hides else f"{option[1]}={HIDDEN}" if option and option[2] else without_userinfo(word)
        hides = option is not None and not option[2]


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return our words, and those for pytest behind `--`."""
    at = list(words).index("--") if "--" in words else len(words)
    return list(words[:at]), list(words[at + 1 :])


def _parser() -> Parser:
    parser = Parser(
        prog="dispatch",
        usage="dispatch --owner OWNER --repo REPO --tag TAG [WORKLOAD …] [-- PYTEST'S OPTIONS]",
        description="Run the workloads of a GitHub release with pytest.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("-o", "--owner", required=True)
    parser.add_argument("-r", "--repo", required=True)
    parser.add_argument("-t", "--tag", required=True)
    parser.add_argument("-b", "--bind", default="")
    parser.add_argument("-p", "--path", default="")
    parser.add_argument("workloads", nargs="*")
    return parser


def _command(given: Namespace) -> Iterator[str]:
    """Yield the arguments of pytest."""
    yield f"{given.owner}/{given.repo}@{given.tag}"  # these workloads alone, whatever tests are in the current folder
    yield from ("--dispatch-repo", f"{given.owner}/{given.repo}", "--dispatch-tag", given.tag)
    for name in ("bind", "path"):
        yield from (f"--dispatch-{name}", value) if (value := getattr(given, name)) else ()
    if given.workloads:
        yield from ("-k", " or ".join(map(_word, given.workloads)))


def _word(text: str) -> str:
    if _WORD.fullmatch(text) and text.lower() not in _KEYWORDS:
        return text
    raise ConfigError(f"expected a workload's name, or a part of it, that pytest's -k can look for, got {text!r}")
