"""A service with a configuration file, in a process of its own, which has not to import all that it needs."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forks import Run, dispatching
from waiting import PATIENCE

COMMAND = (sys.executable, "-m", "pytest_dispatch.cli.main", "serve")

FILE = """\
server: {{boot: "127.0.0.1:0", api: "127.0.0.1:0", announce: false, log: {log}, unknown_machines: welcome}}
database: {{url: lab.db}}
sources: {{cache: assets, folders: {{kept: .}}}}
machines: [{machines}]
"""


@dataclass
class Service:
    """One that is up.

    Attributes:
        out: Where its standard output goes.
        log: Where its standard error goes.
    """

    process: Run
    out: Path
    log: Path

    @property
    def said(self) -> list[str]:
        """The lines that it has said on standard output."""
        return self.out.read_text().splitlines()

    @property
    def api(self) -> str:
        return self.said[0].removeprefix("dispatch: serving ").strip()

    @property
    def boot(self) -> str:
        return self.said[2].removeprefix("dispatch: machines boot from ").strip()

    @property
    def token(self) -> str:
        return Path(self.said[1].removeprefix("dispatch: the token of its API is in ").strip()).read_text().strip()

    def bearer(self, **headers: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", **headers}

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def logs(self, text: str) -> bool:
        return text in self.log.read_text()


@contextmanager
def serving(folder: Path, *words: str, **environ: str) -> Iterator[Service]:
    out, log = folder / "said", folder / "log"
    process = dispatching().start(folder, "serve", *words, out=out, err=log, environ={**os.environ, **environ})
    try:
        seen(lambda: out.read_text().count("\n") >= 3 or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield Service(process, out, log)
    finally:
        process.kill()


@contextmanager
def configured(
    folder: Path, *, log: str = "text", machines: str = "", more: str = "", **environ: str
) -> Iterator[Service]:
    (folder / "lab.yaml").write_text(FILE.format(log=log, machines=machines) + more)
    with serving(folder, "--config=lab.yaml", **environ) as service:
        yield service


def seen(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)
