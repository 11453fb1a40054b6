"""Somebody who types what a page of the documentation says: a home of their own, and nothing in it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from docs_examples import ROOT, Block
from forks import dispatch as forked
from waiting import PATIENCE

SECRET = re.compile(r"^dsp_\S+$", re.MULTILINE)
SERVED = 4  # lines of a lab's start: the last is the link


@dataclass
class Typist:
    """Somebody at a shell.

    Attributes:
        ports: Those of the lab in place of the page's: none is fixed, for others may have it.
        secret: The token that was shown last.
        exported: What stands in the environment by their `export`.
    """

    home: Path
    ports: dict[str, str] = field(default_factory=lambda: {"8080": "0", "8081": "0"})
    secret: str = ""
    exported: dict[str, str] = field(default_factory=dict)
    lab: subprocess.Popen[str] | None = None

    def here(self, text: str) -> str:
        """The text with the lab's ports, and on this computer alone."""
        for there, port in self.ports.items():
            text = text.replace(f":{there}", f":{port}")
        return text.replace("0.0.0.0", "127.0.0.1")

    def environ(self) -> dict[str, str]:
        known = {
            name: os.environ[name] for name in ("LANG", "PYTHONPATH", "COVERAGE_PROCESS_START") if name in os.environ
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        lab = {"DISPATCH_LAB": self.here("http://127.0.0.1:8081")}  # as it is without, with the page's ports
        return {**known, "PATH": path, "HOME": str(self.home), **lab, **self.exported}

    def type(self, line: str) -> str:
        """Type a command; returns what is shown."""
        line = self.here(line).replace("dsp_…", self.secret)
        program, *words = line.split()
        if program == "export":
            name, _, value = words[0].partition("=")
            self.exported[name] = value
            return ""
        if program == "unset":
            del self.exported[words[0]]
            return ""
        if line.startswith("dispatch serve"):
            return self.serve(line)
        ran = run_line(line, self.home, self.environ())
        assert ran.returncode == 0, f"{line}\n{ran.stdout}{ran.stderr}"
        if found := SECRET.search(ran.stdout):
            self.secret = found[0]
        return ran.stdout

    def serve(self, line: str) -> str:
        said = self.home / "said"
        with said.open("w") as out:
            self.lab = subprocess.Popen(line.split(), cwd=self.home, env=self.environ(), stdout=out, text=True)
        give_up = time.monotonic() + PATIENCE
        while said.read_text().count("\n") < SERVED:
            assert self.lab.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.02)
        api, boot = re.findall(r"(?m)(?:serving|boot from) http://127\.0\.0\.1:(\d+)", said.read_text())
        self.ports = {"8080": boot, "8081": api}
        return said.read_text()


def comparable(text: str) -> str:
    """The line without what differs from one time to the next: secrets, folders, versions, ids, times, widths."""
    text = re.sub(r"(dsp_|token=)[\w…-]+", r"\1…", text)
    text = re.sub(r"version [^)]+", "version 0", text)
    text = re.sub(r"\b[0-9a-f]{4}(?:[0-9a-f]{8})?(?=\.\d+\b)", "3f9a", text)
    text = re.sub(r"\b\d+(?:\.\d+)?[smhd](?:\d+[ms])?\b", "1s", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-01-01 12:00:00", text)
    text = re.sub(r"(?:\d{4}-\d\d-\d\d )?\d\d:\d\d UTC", "12:00 UTC", text)
    return " ".join(re.sub(r"\S*/\.local/", "~/.local/", text).split())


def follow(typist: Typist, block: Block) -> None:
    if block.argument:
        quiet = block.text.replace("server:\n", "server:\n  announce: false\n")
        (typist.home / block.argument).write_text(typist.here(quiet))
        return
    shown: list[str] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            shown = [comparable(each) for each in typist.type(line.removeprefix("$ ")).splitlines()]
        else:
            assert comparable(typist.here(line)) in shown, f"{block.where}: {line}\n{shown}"


def run_line(line: str, folder: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a line as bash would; `dispatch` with nothing that is bash's own, in a fork."""
    program, *words = shlex.split(line)
    if program == "dispatch" and not re.search(r"[|<>$;&`*\\]", line):
        return forked(folder, *words, environ=environ)
    return subprocess.run(["bash", "-c", line], cwd=folder, env=environ, capture_output=True, text=True, check=False)


@contextmanager
def newcomer(home: Path) -> Iterator[Typist]:
    """Somebody who has the examples; the lab that they start ends with them."""
    shutil.copytree(ROOT / "examples" / "demo", home / "examples" / "demo")
    somebody = Typist(home)
    yield somebody
    if somebody.lab is not None:
        somebody.lab.kill()
        somebody.lab.wait()
