"""The command lines of the Rust program, beacon 1.1.0, and where ours differ: what each sends, and how it ends."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from beacons import Beacon, Server, http_option, put

HELP, WRONG = (0, None), (2, None)
RUST: dict[str, tuple[int, object]] = {
    "": WRONG,
    "boot": (0, "POST"),
    "boot --": (0, "POST"),
    "boot x": WRONG,
    "boot -- x": WRONG,
    "boot -t x": WRONG,
    "boot help": WRONG,
    "boot report -t T": WRONG,
    "-- boot": WRONG,
    "Boot": WRONG,
    "-h": HELP,
    "-h nope": HELP,
    "nope -h": WRONG,
    "boot -h": HELP,
    "report --help": HELP,
    "report -h -t": HELP,
    "report --help=x": WRONG,
    "help": HELP,
    "help boot": HELP,
    "help report": HELP,
    "help help": HELP,
    "help nope": WRONG,
    "help boot x": WRONG,
    "help -h": WRONG,
    "-V": WRONG,
    "--version": WRONG,
    "report": WRONG,
    "report T": WRONG,
    "report -t": WRONG,
    "report --tit T": WRONG,
    "report -T T": WRONG,
    "-t T report": WRONG,
    "report -t T x": WRONG,
    "report -t T -z": WRONG,
    "report -t T --zzz=1": WRONG,
    "report -t -x": WRONG,
    "report -t -- T": WRONG,
    "report -t T -- x": WRONG,
    "report -tl x": WRONG,
    "report -t T -t T": WRONG,
    "report -t T --title=T": WRONG,
    "report -t T -t U -h": WRONG,
    "report -t T -b file -b file": WRONG,
    "report -t T -m x --milestone=y": WRONG,
    "report -t T -l a b": WRONG,
    "report -t T -b ''": WRONG,
    "report -t T -b gone": (1, None),
    "report -t T -b .": (1, None),
    "report -t T -b gone -l a": (1, None),
    "report -t T": (0, {"title": "T", "body": "stdin\n"}),
    "report -tT": (0, {"title": "T", "body": "stdin\n"}),
    "report -t=T": (0, {"title": "T", "body": "stdin\n"}),
    "report -t==T": (0, {"title": "=T", "body": "stdin\n"}),
    "report -tT=x": (0, {"title": "T=x", "body": "stdin\n"}),
    "report -t=": (0, {"title": "", "body": "stdin\n"}),
    "report -t ''": (0, {"title": "", "body": "stdin\n"}),
    "report --title=": (0, {"title": "", "body": "stdin\n"}),
    "report --title=T": (0, {"title": "T", "body": "stdin\n"}),
    "report --title=-x": (0, {"title": "-x", "body": "stdin\n"}),
    "report -t-x": (0, {"title": "-x", "body": "stdin\n"}),
    "report -t -": (0, {"title": "-", "body": "stdin\n"}),
    "report -t T --": (0, {"title": "T", "body": "stdin\n"}),
    "report -t T -l ''": (0, {"title": "T", "body": "stdin\n", "labels": [""]}),
    "report -t T -l a,b": (0, {"title": "T", "body": "stdin\n", "labels": ["a,b"]}),
    "report -t T -b file": (0, {"title": "T", "body": "file\n"}),
    "report -t T -b=file": (0, {"title": "T", "body": "file\n"}),
    "report -t T --body=file": (0, {"title": "T", "body": "file\n"}),
    "report -t T -b empty": (0, {"title": "T"}),
    "report -t T -l a -lb -l=c --label d --label=e": (
        0,
        {"title": "T", "body": "stdin\n", "labels": ["a", "b", "c", "d", "e"]},
    ),
    "report -mM -ame -tT -a you -bfile": (
        0,
        {"title": "T", "body": "file\n", "assignees": ["me", "you"], "milestone": "M"},
    ),
}

#: Where ours does something else, as docs/protocol.md says.
OURS: dict[str, tuple[int, object]] = {
    "report -t T -b -": (0, {"title": "T", "body": "stdin\n"}),  # a file of that name
    "report -t T -b latin1": (0, {"title": "T", "body": "x\N{REPLACEMENT CHARACTER}"}),  # 1, nothing sent
    "report -t T -b marked": (0, {"title": "T", "body": "x"}),  # the mark is sent
    "report -t T -m ''": (0, {"title": "T", "body": "stdin\n"}),  # the empty milestone is sent
    "report -t -5": (0, {"title": "-5", "body": "stdin\n"}),  # 2
    "report -t '-x y'": (0, {"title": "-x y", "body": "stdin\n"}),  # 2
    "report -ht": WRONG,  # help
}

FILES = {"file": b"file\n", "empty": b"", "latin1": b"x\xff", "marked": b"\xef\xbb\xbfx"}


def outcome(line: str, beacon: Beacon, server: Server, folder: Path) -> tuple[int, bool, Sequence[object]]:
    """How a command line ends, whether it says anything on standard output, and what it sends."""
    put(beacon.efivars, "Boot0001", http_option(server.url()))
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    server.calls.clear()
    result = beacon(*shlex.split(line), stdin=b"stdin\n", cwd=folder)
    sent = [call.method if call.method == "POST" else json.loads(call.body) for call in server.calls]
    return result.returncode, bool(result.stdout), sent


def wanted(expected: tuple[int, object]) -> tuple[int, bool, Sequence[object]]:
    """What `outcome` is to return."""
    status, sent = expected
    return status, expected == HELP, [] if sent is None else [sent]
