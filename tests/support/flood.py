"""A machine that floods: `python flood.py requests|connections PORT SOURCE`, until it is killed.

`requests` sends them as fast as they are answered, a hundred at a time on eight connections; `connections` opens them
as fast as it can, and keeps all that it is left. A line says that it has begun.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from itertools import cycle

REQUEST = b"HEAD /dispatch HTTP/1.1\r\nHost: lab\r\n\r\n"


def connection(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), source_address=(source, 0), timeout=30)


def requests(port: int, source: str) -> None:
    for sock in cycle([connection(port, source) for _ in range(8)]):
        with suppress(OSError):
            sock.sendall(REQUEST * 100)
            sock.setblocking(False)
            with suppress(BlockingIOError):
                while sock.recv(2**16):
                    pass
            sock.settimeout(30)


def connections(port: int, source: str) -> None:
    kept: list[socket.socket] = []
    while True:
        with suppress(OSError):
            kept.append(connection(port, source))
        if len(kept) > 500:
            kept.pop(0).close()


if __name__ == "__main__":
    what, port, source = sys.argv[1:]
    connection(int(port), source).close()
    print("begun", flush=True)
    {"requests": requests, "connections": connections}[what](int(port), source)
