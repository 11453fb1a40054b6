"""Say something to a server: go round those that may be meant until one takes it or the time is over."""

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
from .noted_server import forget, remember, remembered
from .urls import without_query

EFIVARS = "/sys/firmware/efi/efivars"
TIMEOUT = 10.0  # seconds without a byte from a server
LONGEST = 20.0  # seconds until a server has answered in full, and for what is sent as long as it takes at RATE
RATE = 65536  # bytes per second
MOST = 16  # servers that are asked when the time is over already
SEARCH = 10.0  # seconds for the local network to answer
PAUSES = (0.25, 8.0)  # seconds before the second round; at most, each being twice the last

#: The report itself is wrong: another try cannot help.
HOPELESS = frozenset({400, 413})

#: This server does not know this machine, or is none of ours.
NOT_MINE = frozenset({404, 417})

_WIDEST = 200  # characters of a server's words
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|.?)", re.DOTALL
)  # ECMA-48, 5.3-5.6


class Message(NamedTuple):
    """What is to be said."""

    method: str
    body: Optional[bytes]
    name: str  # for messages: "the report"


class Reply(NamedTuple):
    """What a server answered; status 0 if it did not."""

    status: int
    line: str


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
    """Ask these until one takes it; late, only those that were not asked yet. Note what each answered."""
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
    """Tell whether the report was refused by whom it is for: by each server but those that do not know this machine."""
    statuses = {reply.status for reply in answers.values()} - NOT_MINE
    return bool(statuses) and statuses <= HOPELESS


def _candidates(urls: Sequence[str], notes: List[str], deadline: float, answers: Mapping[str, Reply]) -> Iterator[str]:
    """Yield the servers to try, in this order; the network is searched only when all before it were tried in vain.

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
    interfaces = LOOPBACK if os.environ.get("DISPATCH_MDNS_LOOPBACK") == "1" else None  # for tests
    yield from announced_urls(seconds, notes.append, interfaces)


def ask(url: str, message: Message, longest: float = LONGEST) -> Reply:
    """Say it to one server.

    Args:
        url: The server's.
        message: What is to be said.
        longest: Seconds until it has answered in full, however steadily its bytes come; more for what is long.
    """
    limit = longest + len(message.body or b"") // RATE
    replies: List[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(_exchange(url, message)), daemon=True)
    asking.start()
    asking.join(limit)
    return replies[0] if replies else Reply(0, f"no whole answer within {_seconds(limit)}")


def _exchange(url: str, message: Message) -> Reply:
    """Ask, and wait as long as bytes come.

    Proxies named in the environment are not used: the server is on the lab's own network, knows this machine by its
    address, and would see the proxy's instead.
    """
    parts = urlsplit(url)
    connect = getattr(http.client, "HTTPSConnection" if parts.scheme == "https" else "HTTPConnection", None)
    if connect is None:
        return Reply(0, "this Python speaks no TLS")
    connection = connect(parts.hostname or "", parts.port, timeout=TIMEOUT)
    headers = {"User-Agent": "beacon", "Accept": "*/*"}
    if "%" in parts.netloc:  # the interface of a link-local address means nothing to the server (RFC 6874, section 4)
        headers["Host"] = re.sub(r"%[^\]]*", "", parts.netloc.rpartition("@")[2])
    if message.body is not None:
        headers["Content-Type"] = "application/json"
    target = f"{parts.path or '/'}{parts.query and '?'}{parts.query}"
    try:
        connection.request(message.method, target, message.body, headers)
        response = connection.getresponse()
        said = _line(response.read(2000).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a name that is no host
        return Reply(0, _line(getattr(error, "strerror", None) or str(error) or type(error).__name__))
    finally:
        connection.close()
    return Reply(response.status, f"{response.status} {_line(response.reason)}{said and ': '}{said}")


def _seconds(duration: float) -> str:
    return f"{duration:.1f}".rstrip("0").rstrip(".") + "s"


def _line(text: str) -> str:
    """Return a server's words as one line that moves no cursor, and is no command to whatever logs it."""
    plain = "".join(each if each.isprintable() else " " for each in _ESCAPE.sub("", text))
    line = re.sub("#(?=#)", "# ", " ".join(plain.split()))
    return line if len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"
