"""Notes when a Python process gets where: on the path of pytest and its lab in `starting.py`, and of nobody else.

Python's audit events tell it, so that nothing that is measured has to know. A line for each: the time on the system's
monotonic clock, which all processes share, the process, and what happened.
"""

from __future__ import annotations

import os
import sys
import time

_EVENTS = {"subprocess.Popen", "socket.bind", "socket.connect", "sqlite3.connect", "os.listdir", "os.scandir"}
_MODULES = set(os.environ["STARTING_MODULES"].split(","))
_notes = os.open(os.environ["STARTING_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _note(what: str) -> None:
    os.write(_notes, f"{time.monotonic()} {os.getpid()} {what}\n".encode())


def _hook(event: str, given: tuple[object, ...]) -> None:
    if event == "import":
        if given[0] in _MODULES:
            _note(f"import {given[0]}")
    elif event in _EVENTS:
        _note(f"{event} {given[0] if event.startswith('os.') else ''}")


_note("interpreter")
sys.addaudithook(_hook)
