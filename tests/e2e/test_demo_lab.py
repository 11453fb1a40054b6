"""`make demo-lab`: it lives through its history, its pages answer, and Ctrl-C ends it clean."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from project import ROOT
from waiting import PATIENCE

HOURS = 2
#: A page, and what must be on it.
PAGES = {
    "/": "Just ended",
    "/queue": "Queue",
    "/machines": "board-2",
    "/history": "board-",
    "/templates": "soak",
    "/sessions": "runs that people have queued",
    "/lab": "requests of this hour are left",
    "/users": "edsger",
    "/audit": "run.queue",
}


@dataclass
class Demo:
    """The demo, and what it says."""

    process: subprocess.Popen[bytes]
    out: Path

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until it says this."""
        give_up = time.monotonic() + 3 * PATIENCE
        while (found := re.search(pattern, self.out.read_text())) is None:
            assert self.process.poll() is None, self.out.read_text()
            assert time.monotonic() < give_up, self.out.read_text()
            time.sleep(0.05)
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    (tmp_path / "scratch").mkdir()
    out = tmp_path / "said"
    words = ["--port=0", "--machines=2", "--qemu=0", f"--hours={HOURS}", "--pause=0.2"]
    command = [sys.executable, str(ROOT / "examples" / "demo_lab.py"), *words]
    environ = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path / "scratch"), "HOME": str(tmp_path)}
    with out.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environ)
    try:
        yield Demo(process, out)
    finally:
        process.kill()
        process.wait()


def test_a_stranger_looks_at_a_lab_with_a_past_and_ends_it(demo: Demo, tmp_path: Path) -> None:
    link = demo.until(r"Sign in as an administrator, once: (http://\S+)")[1]
    with httpx.Client(follow_redirects=True, timeout=PATIENCE) as client:
        first = client.get(link)
        assert first.status_code == 200
        base = f"{first.url.scheme}://{first.url.netloc.decode()}"
        for path, words in PAGES.items():
            _shows(client, f"{base}{path}", words)
        [oldest] = client.get(f"{base}/api/v1/history", params={"q": "before:1h", "most": "200"}).json()["runs"][-1:]
        assert time.time() - oldest["ended"] > (HOURS - 1) * 3600
        _shows(client, f"{base}/runs/{oldest['run']}", oldest["name"])
        _shows(client, f"{base}/history?q=kind:actions", "rpi-0")
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(PATIENCE) == 0, demo.out.read_text()
    assert demo.out.read_text().endswith("The lab has ended.\n")
    assert list((tmp_path / "scratch").iterdir()) == []


def _shows(client: httpx.Client, url: str, words: str) -> None:
    """Wait until a page shows this."""
    give_up = time.monotonic() + 3 * PATIENCE
    while words not in (reply := client.get(url)).text or reply.status_code != 200:
        assert time.monotonic() < give_up, (url, reply.status_code, reply.text)
        time.sleep(0.1)


def test_one_that_is_ended_in_its_past_ends_too(demo: Demo) -> None:
    demo.until("The lab lives through")
    demo.process.send_signal(signal.SIGTERM)
    assert demo.process.wait(PATIENCE) == 0, demo.out.read_text()
