"""The `beacon` command as a process of its own, a server that it speaks to, and boot options built from the spec."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

GUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
BEACON = (sys.executable, "-m", "pytest_dispatch.beacon")


class Call(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server(ThreadingHTTPServer):
    """Answers each path with its list of statuses, the last one again and again; 200 where there is no list."""

    daemon_threads = True
    block_on_close = True
    host = "127.0.0.1"

    def __init__(self, *, away: bool = False) -> None:
        super().__init__((self.host, 0), Handler, bind_and_activate=False)
        self.server_bind()
        self.calls: list[Call] = []
        self.statuses: dict[str, list[int]] = {}
        self.reason = "because"
        self.closing = threading.Event()
        if not away:
            self.come_back()

    def come_back(self) -> None:
        """Begin to listen at the port, which nobody else could have meanwhile."""
        self.server_activate()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str = "/dispatch") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def report(self) -> dict[str, object]:
        [call] = self.calls
        assert call.method == "PUT"
        report: dict[str, object] = json.loads(call.body)
        return report

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.calls.append(Call(self.command, self.path, dict(self.headers), body))
        statuses = self.server.statuses.get(self.path.partition("?")[0], [200])
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        text = self.server.reason.encode()
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_PUT = answer  # noqa: N815 - the names that http.server looks for

    def log_message(self, *_: object) -> None:
        pass


class Beacon(NamedTuple):
    """Runs the command where there is nothing but the given EFI variables and the loopback interface."""

    efivars: Path
    run: Path  # where it notes which server took the boot message
    command: tuple[str, ...] = BEACON

    @property
    def environment(self) -> dict[str, str]:
        own = {"DISPATCH_EFIVARS": str(self.efivars), "DISPATCH_MDNS_LOOPBACK": "1", "DISPATCH_RUN": str(self.run)}
        return {**os.environ, **own}

    def __call__(
        self, *arguments: str, stdin: bytes = b"", cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[bytes]:
        result = subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            cwd=cwd,
            env={**self.environment, **env},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert b"Traceback" not in result.stderr
        return result


def pythons() -> dict[tuple[int, int], str]:
    """Each version of Python 3 that is installed here and may run `beacon`, the oldest first, and where it is."""
    folders = [*os.get_exec_path(), *map(str, Path.home().glob(".pyenv/versions/*/bin"))]
    found: dict[tuple[int, int], str] = {}
    for minor in range(6, 30):
        for python in filter(os.path.exists, (f"{folder}/python3.{minor}" for folder in folders)):
            command = [python, "-I", "-S", "-c", "import sys; print(*sys.version_info[:2])"]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            if ran.stdout.split() == ["3", str(minor)]:  # else it is a launcher of one that is not there
                found.setdefault((3, minor), python)
    found.setdefault(sys.version_info[:2], sys.executable)
    return dict(sorted(found.items()))


# Boot options, built as UEFI 2.10 has them in sections 3.1.3 and 10.3


def node(kind: int, subtype: int, data: bytes = b"") -> bytes:
    return bytes([kind, subtype]) + (4 + len(data)).to_bytes(2, "little") + data


ACPI = node(0x02, 0x01, bytes(8))
PCI = node(0x01, 0x01, b"\0\2")
MAC = node(0x03, 0x0B, bytes.fromhex("525400123456").ljust(32, b"\0") + b"\1")
IPV4 = node(0x03, 0x0C, bytes(23))
FILE = node(0x04, 0x04, "\\EFI\\debian\\shimx64.efi\0".encode("utf-16-le"))
END = node(0x7F, 0xFF)


def uri(text: str) -> bytes:
    return node(0x03, 0x18, text.encode())


def variable(*nodes: bytes, description: str = "UEFI HTTPv4", data: bytes = b"") -> bytes:
    """An efivarfs file: attributes, EFI_LOAD_OPTION."""
    path = b"".join(nodes)
    name = f"{description}\0".encode("utf-16-le")
    return b"\7\0\0\0" + b"\1\0\0\0" + len(path).to_bytes(2, "little") + name + path + data


def http_option(text: str) -> bytes:
    return variable(ACPI, PCI, MAC, IPV4, uri(text), END, data=b"\1\2\3")


def put(folder: Path, name: str, content: bytes) -> None:
    (folder / f"{name}-{GUID}").write_bytes(content)
