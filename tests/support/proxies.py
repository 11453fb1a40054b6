"""A real HTTP proxy for tests: tunnels by CONNECT, and lets in whom it knows."""

from __future__ import annotations

import base64
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """A running proxy.

    Attributes:
        address: Its host and port.
        known: `USER:PASSWORD` that it lets in; empty lets in everybody.
        tunnels: Where it was asked to lead to, as `HOST:PORT`.
    """

    address: str
    known: str
    tunnels: list[str] = field(default_factory=list)


@contextmanager
def proxy(known: str = "", tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Run a proxy, by TLS where there is a certificate for it."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self._tunnel()

        def _tunnel(self) -> None:
            target = self.rfile.readline().split()[1].decode()
            lines = (line.decode().strip().partition(": ") for line in iter(self.rfile.readline, b"\r\n"))
            headers = {name.lower(): value for name, _, value in lines}
            running.tunnels.append(target)
            expected = f"Basic {base64.b64encode(known.encode()).decode()}"
            if known and headers.get("proxy-authorization") != expected:
                self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            host, _, port = target.rpartition(":")
            with socket.create_connection((HOSTS.get(host, host), int(port))) as there:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pour, args=(there, self.connection))
                back.start()
                _pour(self.connection, there)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
            connection, address = super().get_request()
            return (connection if tls is None else tls.wrap_socket(connection, server_side=True)), address

        def handle_error(self, request: object, client_address: object) -> None:
            """Whoever does not trust the proxy's certificate goes away again."""

    with Server(("127.0.0.1", 0), Handler) as server:
        running = Proxy(f"127.0.0.1:{server.server_address[1]}", known)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield running
        server.shutdown()
        thread.join()


#: Names that only the proxy knows, as those of the world beyond it.
HOSTS = {"github.test": "127.0.0.1", "storage.test": "127.0.0.2"}


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
