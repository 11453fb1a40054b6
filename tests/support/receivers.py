"""A web server to which notifications are sent: it takes them, refuses them, or never answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What came, and what is answered.

    Attributes:
        status: What is answered.
        hangs: Whether nothing is.
        slow: Seconds that each answer takes.
        asked: Paths of all requests.
        messages: Those that were taken.
    """

    port: int = 0
    status: int = 200
    hangs: bool = False
    slow: float = 0.0
    asked: list[str] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    _let_go: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "hook", more: str = "", user: str = "") -> str:
        """An apprise URL of it."""
        return f"json://{user}127.0.0.1:{self.port}/{path}{more}"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]

    def take(self, path: str, body: bytes) -> int:
        self.asked.append(path)
        if self.hangs:
            self._let_go.wait()
        time.sleep(self.slow)
        if self.status == 200:
            self.messages.append(json.loads(body))
        return self.status

    def let_go(self) -> None:
        self.hangs = False
        self._let_go.set()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a port of its own."""
    import loaded_apprise  # noqa: F401  # once, not for each run of pytest within this process

    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status = receiver.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            try:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:
                pass  # whoever asked has given up

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name is the base class's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.let_go()
        server.shutdown()
        thread.join()
        server.server_close()
