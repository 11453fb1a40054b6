"""`beacon`: says from inside a workload that it runs, and what came of it.

The protocol is the one of the `beacon` program for Linux: POST says "I am running", PUT reports, and 417 means "not
my machine", so that the next server is tried. Standard library alone (zeroconf only to search the network), and
nothing heavy is imported: this runs on machines that have just booted.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pytest_dispatch.core.duration import format_duration, parse_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.plain import plain_line
from pytest_dispatch.search import announced_urls, boot_urls, is_url, without_query

EFIVARS = "/sys/firmware/efi/efivars"
TIMEOUT = 10.0  # seconds without a byte from a server
SEARCH = 10.0  # seconds for the local network to answer
PAUSES = (0.25, 8.0)  # seconds before the second round; at most, each being twice the last
RESULTS = ("passed", "failed", "error", "skipped")

#: The report itself is wrong: another try cannot help.
HOPELESS = frozenset({400, 413})


class _UsageError(Exception):
    """What was asked for cannot be done; the text is one line."""


class Message(NamedTuple):
    """What is to be said."""

    method: str
    body: bytes | None
    name: str  # for messages: "the report"


class Reply(NamedTuple):
    """What a server answered; status 0 if it did not."""

    status: int
    line: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 if a server took it, 1 if none did, 2 for wrong usage (argparse raises SystemExit(2) for its own part of
        that), 130 if it was interrupted.
    """
    arguments = _parser().parse_args(argv)
    try:
        message = _message(arguments)
        return _deliver(message, arguments.url, arguments.wait)
    except _UsageError as error:
        print(f"beacon: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("beacon: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="beacon", description="Tell the lab how this workload fares.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="boot|report")
    boot = commands.add_parser("boot", help="say that the workload runs", allow_abbrev=False)
    report = commands.add_parser("report", help="report what came of it", allow_abbrev=False)
    report.add_argument("--title", required=True, help="title of the report")
    report.add_argument("--body", metavar="FILE", help="text of the report; default: standard input")
    report.add_argument("--label", action="append", default=[], help="a label (repeatable)")
    report.add_argument("--assignee", action="append", default=[], help="a GitHub user (repeatable)")
    report.add_argument("--milestone", default="", help="title of a milestone")
    report.add_argument("--result", choices=RESULTS, default="", help="how it ended")
    report.add_argument("--junit", metavar="FILE", help="test results as JUnit XML")
    report.add_argument("--tap", metavar="FILE", help="test results as TAP or KTAP")
    for command in (boot, report):
        command.add_argument(
            "--url", type=_url, action="append", default=[], help="a server; skips the search (repeatable)"
        )
        command.add_argument(
            "--wait",
            type=_duration,
            default=60.0,
            metavar="DURATION",
            help="how long to go on trying while no server takes it (60s)",
        )
    return parser


def _url(text: str) -> str:
    if not is_url(text):
        raise argparse.ArgumentTypeError(
            f"expected a URL such as http://192.168.1.2:8080/dispatch, got {without_query(text)!r}"
        )
    return text


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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
    """An argument whose bytes are not UTF-8 as the nearest text: JSON has no place for stray bytes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _body(path: str | None) -> str:
    if path not in (None, "-"):
        return _file("the body", str(path))
    if sys.stdin is None or (path is None and sys.stdin.isatty()):
        return ""  # nobody pipes anything: waiting for a person to type would hang the workload
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig", "replace")
    except OSError as error:
        raise _UsageError(f"cannot read the body from standard input: {error.strerror}") from error


def _results(option: str, path: str | None) -> str:
    if path is None:
        return ""
    text = _file("the test results", path)
    if not text.strip():  # left out it would pass as a report without results
        raise _UsageError(f"expected test results in {path}, but it is empty; leave {option} out if there are none")
    return text


def _file(what: str, path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8-sig", "replace")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        raise _UsageError(f"cannot read {what} from {path}: {why}") from error


def _deliver(message: Message, urls: Sequence[str], wait: float) -> int:
    """Go round the servers until one takes it or the time is over."""
    deadline = time.monotonic() + wait
    pause, longest = PAUSES
    while True:
        answers: dict[str, Reply] = {}
        notes: list[str] = []
        for url in _candidates(urls, notes, deadline):
            reply = _ask(url, message)
            if reply.status == 200:
                return 0
            answers[without_query(url)] = reply
        left = deadline - time.monotonic()
        if left <= 0 or any(reply.status in HOPELESS for reply in answers.values()):
            break
        time.sleep(min(pause, left))
        pause = min(2 * pause, longest)
    print(f"beacon: no server took {message.name} within {format_duration(wait)}", file=sys.stderr)
    for line in [*(f"{url}: {reply.line}" for url, reply in answers.items()), *notes]:
        print(f"  {line}", file=sys.stderr)
    return 1


def _candidates(urls: Sequence[str], notes: list[str], deadline: float) -> Iterator[str]:
    """Servers to try, in this order; the network is searched only when all before it were tried in vain."""
    if urls:
        yield from urls
        return
    yield from boot_urls(Path(os.environ.get("DISPATCH_EFIVARS") or EFIVARS), notes.append)
    seconds = min(SEARCH, max(1.0, deadline - time.monotonic()))
    interfaces = ["127.0.0.1"] if os.environ.get("DISPATCH_MDNS_LOOPBACK") == "1" else None  # for tests
    yield from announced_urls(seconds, notes.append, interfaces)


def _ask(url: str, message: Message) -> Reply:
    """Say it to one server.

    Proxies named in the environment are not used: the server is on the lab's own network, knows this machine by its
    address, and would see the proxy's instead.
    """
    parts = urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=TIMEOUT)
    headers = {"User-Agent": "beacon", "Accept": "*/*"}
    if message.body is not None:
        headers["Content-Type"] = "application/json"
    target = f"{parts.path or '/'}{parts.query and '?'}{parts.query}"
    try:
        connection.request(message.method, target, message.body, headers)
        response = connection.getresponse()
        said = plain_line(response.read(2000).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # UnicodeError: a name that is no host
        return Reply(0, plain_line(getattr(error, "strerror", None) or str(error) or type(error).__name__))
    finally:
        connection.close()
    return Reply(response.status, f"{response.status} {plain_line(response.reason)}{said and ': '}{said}")


if __name__ == "__main__":
    sys.exit(main())
