"""A service in a process of its own whose disk has faults: it is killed at a commit, and started again."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
from disk import preloaded
from waiting import PATIENCE


@dataclass
class KillableService:
    """One with a journal and addresses of its own, by the file `lab.yaml` in its folder.

    Attributes:
        folder: Where it runs.
        host: Its address; the API is at port 8766.
    """

    folder: Path
    host: str
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def url(self) -> str:
        return f"http://{self.host}:8766"

    @property
    def token(self) -> str:
        return (self.folder / "lab.db.token").read_text().strip()

    @property
    def sign(self) -> Path:
        """A file from which on steps count."""
        return self.folder / "sign"

    def start(self, **environ: str) -> None:
        said, errors = self.folder / "said", self.folder / "errors"
        command = [sys.executable, "-m", "pytest_dispatch.cli.main", "serve", "--config", "lab.yaml"]
        with said.open("wb") as out, errors.open("ab") as err:
            self._process = subprocess.Popen(
                command, env={**preloaded(), **environ}, cwd=self.folder, stdout=out, stderr=err
            )
        give_up = time.monotonic() + PATIENCE
        while said.read_text().count("\n") < 3:
            assert self._process.poll() is None, errors.read_text()
            assert time.monotonic() < give_up, said.read_text()
            time.sleep(0.01)

    def ended(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def kill(self) -> None:
        """Have it end as if the computer had lost its power."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        reply = httpx.request(method, f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=PATIENCE)
        assert reply.is_success, (method, path, reply.text)
        return reply.json() if reply.content else None

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "lab.db")) as db:
            return db.execute(sql).fetchall()
