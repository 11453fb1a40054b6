"""`beacon`: says from inside a workload that it runs, and what came of it.

The protocol is the one of the `beacon` program for Linux: POST says "I am running", PUT reports, and 417 means "not
my machine", so that the next server is tried. Standard library alone (zeroconf only to search the network), and
nothing heavy is imported: this runs on machines that have just booted.
"""

from __future__ import annotations

import argparse
import errno
import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pytest_dispatch.core.duration import format_duration, parse_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.plain import plain_line
from pytest_dispatch.search import announced_urls, boot_urls, forget, is_url, remember, remembered, without_query

EFIVARS = "/sys/firmware/efi/efivars"
TIMEOUT = 10.0  # seconds without a byte from a server
LONGEST = 20.0  # seconds until a server has answered in full, and for what is sent as long as it takes at RATE
RATE = 65536  # bytes per second
MOST = 16  # servers that are asked when the time is over already
SEARCH = 10.0  # seconds for the local network to answer
PAUSES = (0.25, 8.0)  # seconds before the second round; at most, each being twice the last
RESULTS = ("passed", "failed", "error", "skipped")

#: The report itself is wrong: another try cannot help.
HOPELESS = frozenset({400, 413})

#: This server does not know this machine, or is none of ours.
NOT_MINE = frozenset({404, 417})


class _UnreadableError(Exception):
    """What was to be sent cannot be read; the text is one line."""


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
        0 if a server took it, 1 if none did or what was to be sent cannot be read, 130 if it was interrupted.

    Raises:
        SystemExit: With 2 for wrong usage, with 0 after help.
    """
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    if len(words) > 1 and words[-1] == "--":
        words.pop()
    if "--" in words:  # what argparse makes of it depends on the version of Python
        parser.error("expected no '--': everything is an option here")
    arguments = parser.parse_args(words)
    if arguments.command == "help":
        parser.parse_args([*(arguments.about or ()), "--help"])
    try:
        message = _message(arguments)
        return deliver(message, arguments.url, arguments.wait)
    except _UnreadableError as error:
        print(f"beacon: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("beacon: interrupted", file=sys.stderr)
        return 130


class _Once(argparse.Action):
    """Takes a value, and refuses a second one: which of the two was meant?"""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option: str | None = None,
    ) -> None:
        given: set[str] = vars(namespace).setdefault("given", set())
        if self.dest in given:
            raise argparse.ArgumentError(self, "expected once, but it is given again")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="beacon", description="Tell the lab how this workload fares.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="boot|report|help")
    boot = commands.add_parser("boot", help="say that the workload runs", allow_abbrev=False)
    report = commands.add_parser("report", help="report what came of it", allow_abbrev=False)
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


def _about(text: str) -> tuple[str, ...]:
    """The command to tell about; none for `help` itself, about which there is no more to tell."""
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
        if error.errno == errno.EBADF:  # it is not open for reading, so nobody meant to give anything
            return ""
        raise _UnreadableError(f"cannot read the body from standard input: {error.strerror}") from error


def _results(option: str, path: str | None) -> str:
    if path is None:
        return ""
    text = _file("the test results", path)
    if not text.strip():  # left out it would pass as a report without results
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


def deliver(message: Message, urls: Sequence[str], wait: float, longest: float = LONGEST) -> int:
    """Go round the servers until one takes it or the time is over.

    Args:
        message: What is to be said.
        urls: Servers; where there are none, they are looked for.
        wait: Seconds in which servers are asked; each is asked once in any case.
        longest: See `ask`.

    Returns:
        0 if one took it, else 1.
    """
    if message.method == "POST":
        forget()
    deadline = time.monotonic() + wait
    pause, longest_pause = PAUSES
    answers: dict[str, Reply] = {}
    while True:
        notes: list[str] = []
        if _round(message, _candidates(urls, notes, deadline, answers), deadline, answers, longest):
            return 0
        left = deadline - time.monotonic()
        if left <= 0 or _is_hopeless(answers):
            break
        time.sleep(min(pause, left))
        pause = min(2 * pause, longest_pause)
    print(f"beacon: no server took {message.name} within {format_duration(wait)}", file=sys.stderr)
    for line in [*(f"{without_query(url)}: {reply.line}" for url, reply in answers.items()), *notes]:
        print(f"  {line}", file=sys.stderr)
    return 1


def _round(message: Message, urls: Iterator[str], deadline: float, answers: dict[str, Reply], longest: float) -> bool:
    """Ask these until one takes it; late, only those that were not asked yet. Notes what each answered."""
    for url in urls:
        if time.monotonic() > deadline and (url in answers or len(answers) >= MOST):
            return False
        answers[url] = ask(url, message, longest)
        if answers[url].status == 200:
            if message.method == "POST":
                remember(url)
            return True
    return False


def _is_hopeless(answers: Mapping[str, Reply]) -> bool:
    """Whether the report was refused by whom it is for: by each server but those that do not know this machine."""
    statuses = {reply.status for reply in answers.values()} - NOT_MINE
    return bool(statuses) and statuses <= HOPELESS


def _candidates(urls: Sequence[str], notes: list[str], deadline: float, answers: Mapping[str, Reply]) -> Iterator[str]:
    """Servers to try, in this order; the network is searched only when all before it were tried in vain.

    Anybody may announce a server. So what is said after the boot message is for the lab that took that one: others are
    asked only when it no longer knows this machine.
    """
    if urls:
        yield from urls
        return
    mine = remembered()
    if mine:
        yield mine
    folder = Path(os.environ.get("DISPATCH_EFIVARS") or EFIVARS)
    yield from (url for url in boot_urls(folder, notes.append) if url != mine)
    if mine and answers[mine].status not in NOT_MINE:
        notes.append(f"mDNS: not searched: the report is for {without_query(mine)}, which took the boot message")
        return
    seconds = min(SEARCH, max(1.0, deadline - time.monotonic()))
    interfaces = ["127.0.0.1"] if os.environ.get("DISPATCH_MDNS_LOOPBACK") == "1" else None  # for tests
    yield from announced_urls(seconds, notes.append, interfaces)


def ask(url: str, message: Message, longest: float = LONGEST) -> Reply:
    """Say it to one server.

    Args:
        url: The server's.
        message: What is to be said.
        longest: Seconds until it has answered in full, however steadily its bytes come; more for what is long.
    """
    limit = longest + len(message.body or b"") // RATE
    replies: list[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(_exchange(url, message)), daemon=True)
    asking.start()
    asking.join(limit)
    return replies[0] if replies else Reply(0, f"no whole answer within {format_duration(limit)}")


def _exchange(url: str, message: Message) -> Reply:
    """Ask, and wait as long as bytes come.

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
