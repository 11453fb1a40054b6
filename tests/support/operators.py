"""An operator at a shell: a lab with groups, templates and machines, and commands typed for it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from shared_labs import SharedLab

from pytest_dispatch.cli.main import main

LAB = """\
server: {boot: "{boot}", api: "{api}", announce: false, allow: [127.0.0.0/8]}
database: {url: lab.db}
sources: {cache: assets, folders: {w: w}}
machines:
  - {id: rpi-01, labels: [bench=left], driver: "sim?pace=0.002"}
  - {id: rpi-02, labels: [bench=left], driver: "sim?pace=0.002"}
  - {id: checked-1, labels: [bench=checked], driver: "sim?pace=0.002"}
  - {id: epyc-1, labels: [bench=right], driver: "sim?pace=0.002"}
cycles:
  - {name: nightly, folder: w, once: "2099-01-01T02:00:00Z", group: right}
groups:
  - id: left
    description: Raspberry Pis
    labels: [bench=left]
    max_running: 4
    templates:
      - {id: smoke, name: smoke.efi, kind: boot, payload: SMOKE}
      - {id: memory, name: memory.efi, kind: boot, payload: MEMORY}
      - {id: hang, name: hang.efi, kind: boot, payload: HANG}
      - {id: wrongsize, name: wrongsize.efi, kind: boot, payload: WRONG}
  - {id: right, labels: [bench=right]}
  - id: checked
    labels: [bench=checked]
    health: {template: check}
    templates:
      - {id: check, name: check.efi, kind: boot, payload: CHECK}
"""
PLAYED = {"smoke.efi": "pass", "memory.efi": "fail", "hang.efi": "hang", "check.efi": "pass"}
SIZE = 10  # of each of them


@dataclass(frozen=True)
class Ran:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[list[str]]:
        """Its output as words."""
        return [line.split() for line in self.out.splitlines()]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Operator:
    """Somebody who has the token of the lab's own file."""

    lab: SharedLab
    capture: pytest.CaptureFixture[str]

    def types(self, line: str, code: int = 0) -> Ran:
        """Type a command without its first word; returns what it says."""
        given = main([*line.split()])
        out, err = self.capture.readouterr()
        assert given == code, (line, out, err)
        assert err.count("\n") == (1 if code else 0), err
        return Ran(given, out, err)

    def queues(self, template: str, *words: str) -> str:
        """Queue a run of a template; returns its id."""
        made = self.types(" ".join(("templates queue", template, *words, "--json")))
        run: str = made.json["id"]
        return run


@contextmanager
def staffed_lab(folder: Path, text: str = LAB) -> Iterator[SharedLab]:
    """A lab of a configuration file, with workloads that simulated machines play."""
    (folder / "w").mkdir(parents=True)
    for name, plays in PLAYED.items():
        (folder / "w" / name).write_text(f"sim: {plays}\n".ljust(SIZE))
        payload = f'{{media: efi, location: "folder:w/{name}", size: {SIZE}}}'
        text = text.replace(name.removesuffix(".efi").upper(), payload)
    text = text.replace("WRONG", f'{{media: efi, location: "folder:w/smoke.efi", size: {SIZE + 1}}}')
    with SharedLab(folder, (), dict(os.environ), file=text) as lab:
        yield lab


def as_operator(lab: SharedLab, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Operator:
    """Somebody whose shell knows the lab and its token."""
    monkeypatch.setenv("DISPATCH_LAB", lab.url)
    monkeypatch.setenv("DISPATCH_TOKEN", lab.token)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(lab.folder / "config"))
    return Operator(lab, capture)
