"""docs/health.md, typed line by line: a machine breaks, is held by the lab, passes its health workload, and returns.

The lab, pytest and the commands are processes, as they are for whoever reads the page.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from docs_examples import ROOT, Block, blocks
from typists import run_line
from waiting import PATIENCE

PAGE = ROOT / "docs" / "health.md"
TYPED = [block for block in blocks(PAGE) if block.directive == "service"]
WORKLOADS = 12  # while the other machine passes them, the broken one takes three
LONG = 4 * PATIENCE  # a workload is tried three times on a machine that does not boot it


@dataclass
class Shell:
    """A shell in a folder with a lab's file.

    Attributes:
        ports: Those of the lab in place of the page's.
        exported: What stands in the environment.
    """

    folder: Path
    ports: dict[str, str] = field(default_factory=lambda: {"8080": "0", "8081": "0"})
    exported: dict[str, str] = field(default_factory=dict)
    lab: subprocess.Popen[str] | None = None

    def here(self, text: str) -> str:
        for there, port in self.ports.items():
            text = text.replace(f":{there}", f":{port}")
        return text.replace("0.0.0.0", "127.0.0.1")

    def environ(self) -> dict[str, str]:
        known = {name: os.environ[name] for name in ("LANG", "PYTHONPATH") if name in os.environ}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        lab = self.here("http://127.0.0.1:8081")
        return {**known, "PATH": path, "HOME": str(self.folder), "DISPATCH_LAB": lab, **self.exported}

    def type(self, line: str) -> str:
        line = self.here(line)
        if line.startswith("dispatch serve"):
            return self.serve(line)
        if line.startswith("export"):
            token = (self.folder / "lab.db.token").read_text().strip()
            self.exported["DISPATCH_TOKEN"] = token
            return ""
        if line.startswith("dispatch machines"):
            line += f" --lab {self.here('http://127.0.0.1:8081')}"
        ran = run_line(line, self.folder, self.environ())
        assert ran.returncode == 0, f"{line}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def serve(self, line: str) -> str:
        said = self.folder / "said"
        with said.open("w") as out, (self.folder / "log").open("w") as log:
            self.lab = subprocess.Popen(
                line.split(), cwd=self.folder, env=self.environ(), stdout=out, stderr=log, text=True
            )
        give_up = time.monotonic() + PATIENCE
        while said.read_text().count("\n") < 3:
            assert self.lab.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < give_up
            time.sleep(0.02)
        api, boot = re.findall(r"(?m)(?:serving|boot from) http://127\.0\.0\.1:(\d+)", said.read_text())
        self.ports = {"8080": boot, "8081": api}
        return said.read_text()

    def write(self, block: Block) -> None:
        quiet = block.text.replace("server: {", "server: {announce: false, ").replace(
            "sources: {", "sources: {cache: assets, "
        )
        (self.folder / block.argument).write_text(self.here(quiet))

    def mend(self) -> None:
        file = self.folder / "lab.yaml"
        file.write_text(file.read_text().replace("sim?play=no-boot", "sim"))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    for folder in ("kept", "w"):
        (tmp_path / folder).mkdir()
    (tmp_path / "kept" / "check.efi").write_bytes(b"C" * 4096)
    for number in range(WORKLOADS):
        (tmp_path / "w" / f"{number}.efi").write_bytes(b"W" * 1024)
    somebody = Shell(tmp_path)
    yield somebody
    if somebody.lab is not None:
        somebody.lab.kill()
        somebody.lab.wait()


def is_part(expected: Any, shown: Any) -> bool:
    """Whether all that is expected is among what is shown."""
    if isinstance(expected, dict):
        return all(key in shown and is_part(value, shown[key]) for key, value in expected.items())
    return bool(expected == shown)


def shows(shown: str, expected: str) -> bool:
    if expected.startswith("{"):
        return is_part(json.loads(expected), json.loads(shown))
    return expected.split() in [line.split() for line in shown.splitlines()]


def follow(shell: Shell, block: Block) -> None:
    """Type the commands; what is shown comes sooner or later, since machines take their time."""
    if block.argument == "lab.yaml":
        shell.write(block)
        return
    if block.argument == "mended":
        shell.mend()
    typed, give_up = "", time.monotonic() + LONG
    for line in block.text.splitlines():
        if line.startswith("$ "):
            typed = line.removeprefix("$ ")
            shown = shell.type(typed)
            continue
        while not shows(shown, line):
            assert time.monotonic() < give_up, f"{block.where}: {line}\n{shown}"
            time.sleep(0.2)
            shown = shell.type(typed)


@pytest.mark.draw(1, of="pages that are typed")
def test_a_machine_breaks_is_held_is_checked_and_returns(shell: Shell) -> None:
    for block in TYPED:
        follow(shell, block)
