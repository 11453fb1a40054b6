"""The command line of `beacon`: reads the arguments, and builds the message to send.

The protocol is that of the `beacon` program for Linux: POST means "I am running", PUT reports, and the answer 417 means
"not my machine", after which the next server is tried. Imports are light: this runs on machines that have just booted.
"""

import argparse
import errno
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Optional, Sequence, Set, Tuple

from .delivery import Message, deliver
from .urls import is_url, without_query

RESULTS = ("passed", "failed", "error", "skipped")

_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_DURATION = re.compile(rf"(?!$)(?:0|(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?)")
_UNITS = (3600.0, 60.0, 1.0)


class _UnreadableError(Exception):
    """An input file cannot be read; the text is one line."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command.

    Returns:
        0 if a server took the message, 1 if none did or an input cannot be read, 130 after an interrupt.

    Raises:
        SystemExit: With 2 for wrong usage, with 0 after help.
    """
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    if len(words) > 1 and words[-1] == "--":
        words.pop()
    if "--" in words:  # argparse treats it differently in different versions of Python
        parser.error("expected no '--': everything is an option here")
    arguments = parser.parse_args(words)
    if arguments.command == "help":
        parser.parse_args([*(arguments.about or ()), "--help"])
    if argv is None:  # it is a program of its own
        signal.signal(signal.SIGINT, _end)
    try:
        message = _message(arguments)
        return deliver(message, arguments.url, arguments.wait)
    except _UnreadableError as error:
        print(f"beacon: {error}", file=sys.stderr)
        return 1


def _end(_number: int, _frame: object) -> None:
    """End at once: a KeyboardInterrupt is lost where it comes in the middle of a destructor."""
    os.write(2, b"beacon: interrupted\n")
    os._exit(130)


class _Once(argparse.Action):
    """Store a value, and refuse a second one, which would be ambiguous."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option: Optional[str] = None,
    ) -> None:
        given: Set[str] = vars(namespace).setdefault("given", set())
        if self.dest in given:
            raise argparse.ArgumentError(self, "expected once, but it is given again")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


def _parser() -> argparse.ArgumentParser:
    short = sys.version_info < (3, 8)  # before Python 3.8, `-tT` works only if abbreviations are allowed
    parser = argparse.ArgumentParser(
        prog="beacon", description="Tell the lab how this workload fares.", allow_abbrev=short
    )
    commands = parser.add_subparsers(dest="command", metavar="boot|report|help")
    commands.required = True  # Python 3.6 has no argument for it
    boot = commands.add_parser("boot", help="say that the workload runs", allow_abbrev=short)
    report = commands.add_parser("report", help="report what came of it", allow_abbrev=short)
    about = commands.add_parser("help", help="say this, or more about a command", add_help=False)
    about.add_argument("about", nargs="?", type=_about, metavar="boot|report")
    _report_options(report)
    for command in (boot, report):
        command.add_argument(
            "--url", type=_url, action="append", default=[], help="a server; skips the search (repeatable)"
        )
        command.add_argument(
            "--wait",
            type=_duration,
            action=_Once,
            default=60.0,
            metavar="DURATION",
            help="how long to go on trying while no server takes it (60s)",
        )
    return parser


def _report_options(report: argparse.ArgumentParser) -> None:
    once = {"action": _Once, "default": ""}
    file = {"action": _Once, "type": _path, "metavar": "FILE"}
    several = {"action": "append", "default": []}
    for short, name, what, kind in (
        ("-t", "--title", "title of the report", {"action": _Once, "required": True}),
        ("-b", "--body", "text of the report; default: standard input", file),
        ("-l", "--label", "a label (repeatable)", several),
        ("-a", "--assignee", "a GitHub user (repeatable)", several),
        ("-m", "--milestone", "title of a milestone", once),
        (None, "--result", "how it ended", {**once, "choices": RESULTS}),
        (None, "--junit", "test results as JUnit XML", file),
        (None, "--tap", "test results as TAP or KTAP", file),
    ):
        report.add_argument(*filter(None, (short, name)), help=what, **kind)


def _about(text: str) -> Tuple[str, ...]:
    """Return the command to show help for; empty for `help` itself, which has no further help."""
    if text not in ("boot", "report", "help"):
        raise argparse.ArgumentTypeError(f"expected boot or report, got {text!r}")
    return () if text == "help" else (text,)


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a file, got an empty one")
    return text


def _url(text: str) -> str:
    if not is_url(text):
        raise argparse.ArgumentTypeError(
            f"expected a URL such as http://192.168.1.2:8080/dispatch, got {without_query(text)!r}"
        )
    return text


def _duration(text: str) -> float:
    """Return the seconds in a duration such as `1h30m`, `0.5s` or `0`: h, m and s in this order, each at most once."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a duration such as 30s, 5m or 1h, got {text!r}")
    return sum(float(number) * unit for number, unit in zip(match.groups(), _UNITS) if number)


def _message(arguments: argparse.Namespace) -> Message:
    if arguments.command == "boot":
        return Message("POST", None, "the boot message")
    fields = {
        "title": _clean(arguments.title),
        "body": _body(arguments.body),
        "labels": [_clean(label) for label in arguments.label],
        "assignees": [_clean(assignee) for assignee in arguments.assignee],
        "milestone": _clean(arguments.milestone),
        "result": arguments.result,
        "junit": _results("--junit", arguments.junit),
        "tap": _results("--tap", arguments.tap),
    }
    kept = {name: value for name, value in fields.items() if value or name == "title"}
    return Message("PUT", json.dumps(kept).encode(), "the report")


def _clean(text: str) -> str:
    """Return an argument with bytes replaced that are not UTF-8, because JSON cannot contain them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _body(path: Optional[str]) -> str:
    if path not in (None, "-"):
        return _file("the body", str(path))
    if sys.stdin is None or (path is None and sys.stdin.isatty()):
        return ""  # no input is piped in: waiting for typed input would hang the workload
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig", "replace")
    except OSError as error:
        if error.errno == errno.EBADF:  # standard input is not open for reading: no input is intended
            return ""
        raise _UnreadableError(f"cannot read the body from standard input: {error.strerror}") from error


def _results(option: str, path: Optional[str]) -> str:
    if path is None:
        return ""
    text = _file("the test results", path)
    if not text.strip():  # sending nothing would look like a report without results
        raise _UnreadableError(
            f"expected test results in {path}, but it is empty; leave {option} out if there are none"
        )
    return text


def _file(what: str, path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8-sig", "replace")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        raise _UnreadableError(f"cannot read {what} from {path}: {why}") from error
