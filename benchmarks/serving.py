"""GET of 256 MiB by 8 machines at once, against nginx serving the same file with sendfile."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench_lab import Measure, running_lab, until_it_listens

from machines import Wire, address

SIZE = 256 * 2**20
MACHINES = 8
ROUNDS = 9

CURL = ("curl", "-sf", "-A", "bench", "-o", "/dev/null", "-w", "%{size_download}")

_NGINX = """
daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; root {folder}; }} }}
"""


@contextlib.contextmanager
def nginx(folder: Path, port: int = 18093) -> Iterator[str]:
    """Nginx serving `folder`."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port))
    with subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-p", str(folder)]) as process:
        try:
            until_it_listens(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def fetch_by_all(urls: list[str]) -> float:
    """Bytes per second of all downloads together."""
    began = time.perf_counter()
    clients = [  # by its own name curl would be taken for a person's tool
        subprocess.Popen([*CURL, "--interface", address(n), url], stdout=subprocess.PIPE, text=True)
        for n, url in enumerate(urls)
    ]
    for client in clients:
        size = client.communicate()[0]
        if client.returncode or size != str(SIZE):
            raise RuntimeError(f"a download failed: {size} bytes, exit code {client.returncode}")
    return SIZE * len(urls) / (time.perf_counter() - began)


def report_by_all(port: int) -> None:
    """Have every machine end its run, so that it gets another one."""

    async def report(machine: str) -> None:
        wire = Wire(port, machine)
        for method, body in (("POST", b""), ("PUT", b'{"title": "bench"}'), ("HEAD", b"")):
            status, _ = await wire.ask(method, "/dispatch", body)
            if status != 200:
                raise RuntimeError(f"{method} answered {status}")
        wire.close()

    async def report_all() -> None:
        await asyncio.gather(*(report(address(number)) for number in range(MACHINES)))

    asyncio.run(report_all())


def measure() -> list[Measure]:
    """Rounds in turn, medians compared."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # nginx's workers are another user
        file = folder / "asset.img"
        with file.open("wb") as out:
            for _ in range(SIZE // 2**20):
                out.write(b"\xa5" * 2**20)
        ours, theirs = [], []
        with nginx(folder) as reference, running_lab([file], MACHINES * (ROUNDS + 1)) as lab:
            fetch_by_all([f"{reference}/asset.img"] * MACHINES)
            for _ in range(ROUNDS):
                ours.append(fetch_by_all([f"{lab.url}/dispatch"] * MACHINES))
                theirs.append(fetch_by_all([f"{reference}/asset.img"] * MACHINES))
                report_by_all(lab.port)
    ratio = sorted(a / b for a, b in zip(ours, theirs, strict=True))[ROUNDS // 2]
    return [
        Measure(
            f"GET of 256 MiB by {MACHINES} machines at once",
            "nginx, sendfile",
            f"{sorted(ours)[ROUNDS // 2] / 2**30:.2f} GiB/s",
            f"{sorted(theirs)[ROUNDS // 2] / 2**30:.2f} GiB/s",
            ratio,
            "≥ 0.9",
            ratio >= 0.9,
        )
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
