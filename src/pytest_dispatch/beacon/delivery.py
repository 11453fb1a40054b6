"""Deliver a message: ask the possible servers in turn until one takes it or the time is over."""

import http.client
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence
from urllib.parse import urlsplit

from .boot_options import boot_urls
from .mdns import LOOPBACK, announced_urls
from .saved_server import forget_server, save_server, saved_server
from .urls import without_query

EFIVARS = "/sys/firmware/efi/efivars"
TIMEOUT = 10.0  # seconds without a byte from a server
LONGEST = 20.0  # longest wait for a complete answer in seconds, plus the time to send the message at RATE
RATE = 65536  # lowest expected upload rate, in bytes per second
MOST = 16  # maximum number of servers to ask after the time is over
SEARCH = 10.0  # seconds to search the local network
PAUSES = (0.25, 8.0)  # first and longest pause between rounds, in seconds; each pause is twice the previous one

#: Statuses that mean that the report itself is wrong, so that a retry cannot help.
HOPELESS = frozenset({400, 413})

#: Statuses that mean that the server does not know this machine, or is not a lab.
NOT_MINE = frozenset({404, 417})

_WIDEST = 200  # maximum number of characters shown of a server's text
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|.?)", re.DOTALL
)  # ECMA-48, 5.3-5.6


class Message(NamedTuple):
    """A message to send."""

    method: str
    body: Optional[bytes]
    name: str  # for output, such as "the report"


class Reply(NamedTuple):
    """A server's answer; status 0 if there was none."""

    status: int
    line: str


def deliver(message: Message, urls: Sequence[str], wait: float, longest: float = LONGEST) -> int:
    """Ask servers in turn until one takes the message or the time is over.

    Args:
        message: The message.
        urls: URLs of servers; if empty, servers are searched.
        wait: Seconds to go on asking; each server is asked at least once.
        longest: Longest wait for an answer, as in `ask`.

    Returns:
        0 if a server took the message, else 1.
    """
    if message.method == "POST":
        forget_server()
    deadline = time.monotonic() + wait
    pause, longest_pause = PAUSES
    answers: Dict[str, Reply] = {}
    while True:
        notes: List[str] = []
        if _round(message, _candidates(urls, notes, deadline, answers), deadline, answers, longest):
            return 0
        left = deadline - time.monotonic()
        if left <= 0 or _is_hopeless(answers):
            break
        time.sleep(min(pause, left))
        pause = min(2 * pause, longest_pause)
    print(f"beacon: no server took {message.name} within {_seconds(wait)}", file=sys.stderr)
    for line in [*(f"{without_query(url)}: {reply.line}" for url, reply in answers.items()), *notes]:
        print(f"  {line}", file=sys.stderr)
    return 1


def _round(message: Message, urls: Iterator[str], deadline: float, answers: Dict[str, Reply], longest: float) -> bool:
    """Ask servers until one takes the message, and store their answers; after the deadline, ask only new servers."""
    for url in urls:
        if time.monotonic() > deadline and (url in answers or len(answers) >= MOST):
            return False
        answers[url] = ask(url, message, longest)
        if answers[url].status == 200:
            if message.method == "POST":
                save_server(url)
            return True
    return False


def _is_hopeless(answers: Mapping[str, Reply]) -> bool:
    """Return whether every server that knows this machine has refused the report as wrong."""
    statuses = {reply.status for reply in answers.values()} - NOT_MINE
    return bool(statuses) and statuses <= HOPELESS


def _candidates(urls: Sequence[str], notes: List[str], deadline: float, answers: Mapping[str, Reply]) -> Iterator[str]:
    """Yield the URLs of servers in the order to try; the network is searched only after all others have failed.

    Anybody can announce a server. So a report goes to the lab that took the boot message, and others are asked only if
    that lab no longer knows this machine.
    """
    if urls:
        yield from urls
        return
    mine = saved_server()
    if mine:
        yield mine
    folder = Path(os.environ.get("DISPATCH_EFIVARS") or EFIVARS)
    yield from (url for url in boot_urls(folder, notes.append) if url != mine)
    if mine and answers[mine].status not in NOT_MINE:
        notes.append(f"mDNS: not searched: the report is for {without_query(mine)}, which took the boot message")
        return
    seconds = min(SEARCH, max(1.0, deadline - time.monotonic()))
    interfaces = LOOPBACK if os.environ.get("DISPATCH_MDNS_LOOPBACK") == "1" else None  # for tests
    yield from announced_urls(seconds, notes.append, interfaces)


def ask(url: str, message: Message, longest: float = LONGEST) -> Reply:
    """Send the message to one server.

    Args:
        url: URL of the server.
        message: The message.
        longest: Longest wait for the complete answer in seconds, even if bytes keep coming; longer for a long message.
    """
    limit = longest + len(message.body or b"") // RATE
    replies: List[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(_exchange(url, message)), daemon=True)
    asking.start()
    asking.join(limit)
    return replies[0] if replies else Reply(0, f"no whole answer within {_seconds(limit)}")


def _exchange(url: str, message: Message) -> Reply:
    """Send the message, and read the answer as long as bytes keep coming.

    Proxies in the environment are ignored: the server is on the lab's own network and identifies this machine by its
    address, but would see the proxy's address instead.
    """
    parts = urlsplit(url)
    connect = getattr(http.client, "HTTPSConnection" if parts.scheme == "https" else "HTTPConnection", None)
    if connect is None:
        return Reply(0, "this Python speaks no TLS")
    connection = connect(parts.hostname or "", parts.port, timeout=TIMEOUT)
    headers = {"User-Agent": "beacon", "Accept": "*/*"}
    if "%" in parts.netloc:  # a link-local address's zone is valid only on this machine (RFC 6874, section 4)
        headers["Host"] = re.sub(r"%[^\]]*", "", parts.netloc.rpartition("@")[2])
    if message.body is not None:
        headers["Content-Type"] = "application/json"
    target = f"{parts.path or '/'}{parts.query and '?'}{parts.query}"
    try:
        connection.request(message.method, target, message.body, headers)
        response = connection.getresponse()
        said = _line(response.read(2000).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an invalid host name
        return Reply(0, _line(getattr(error, "strerror", None) or str(error) or type(error).__name__))
    finally:
        connection.close()
    return Reply(response.status, f"{response.status} {_line(response.reason)}{said and ': '}{said}")


def _seconds(duration: float) -> str:
    return f"{duration:.1f}".rstrip("0").rstrip(".") + "s"


def _line(text: str) -> str:
    """Return a server's text as one line without control characters and without commands to CI logs (`##…`)."""
    plain = "".join(each if each.isprintable() else " " for each in _ESCAPE.sub("", text))
    line = re.sub("#(?=#)", "# ", " ".join(plain.split()))
    return line if len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"
