"""What every test of `beacon` may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from beacons import Beacon, Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def efivars(tmp_path: Path) -> Path:
    folder = tmp_path / "efivars"
    folder.mkdir()
    return folder


@pytest.fixture
def beacon(efivars: Path, tmp_path: Path) -> Beacon:
    run = tmp_path / "run"
    run.mkdir()
    return Beacon(efivars, run)


@pytest.fixture(autouse=True)
def _no_notes_of_this_computer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DISPATCH_RUN", str(tmp_path / "run"))
