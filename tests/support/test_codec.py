"""JSON is decoded in several threads, each of which may be the first to meet a type."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from pytest_dispatch.server.api.schemas import RunView
from pytest_dispatch.support.codec import decode

#: Each child begins without anything learned; threads take turns as often as they can.
FIRST_MEETINGS = """
import collections, os, sys, threading
from pytest_dispatch.server.api.schemas import RunChange, RunView
from pytest_dispatch.support.codec import decode

sys.setswitchinterval(1e-6)

def meet(together, shape):
    together.wait()
    try:
        decode(b'{"run": {"workload": {}}}', shape)
    except ValueError:
        pass

def child():
    together = threading.Barrier(2)
    threads = [threading.Thread(target=meet, args=(together, shape)) for shape in (RunChange, RunView)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0)

ends = collections.Counter()
for _ in range(60):
    process = os.fork()
    if not process:
        child()
    ends[os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])] += 1
print(dict(ends))
"""


def test_two_threads_meet_a_type_at_once() -> None:
    result = subprocess.run([sys.executable, "-c", FIRST_MEETINGS], capture_output=True, text=True, check=True)
    assert result.stdout == "{0: 60}\n"


def test_what_is_something_else_is_told() -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field `run`"):
        decode(b"{}", RunView)
    with pytest.raises(msgspec.DecodeError, match="malformed"):
        decode(b"nothing", RunView)
