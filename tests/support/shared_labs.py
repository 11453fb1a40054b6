"""Labs that several pytest sessions share: `dispatch serve` in a process of its own, which tests end and start."""

from __future__ import annotations

import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from forks import Run, dispatching
from waiting import PATIENCE


@dataclass
class SharedLab:
    """A lab with a journal and ports that it keeps; a context manager.

    Args:
        folder: Its journal, token and cache are here.
        words: Further words of its command line.
        environ: Its environment.
        file: Its lab.yaml, in place of words; `{api}` and `{boot}` stand for its addresses.
    """

    folder: Path
    words: tuple[str, ...]
    environ: dict[str, str]
    url: str = ""
    boot_url: str = ""
    file: str = ""
    _process: Run | None = field(default=None, repr=False)

    @property
    def token(self) -> str:
        return (self.folder / "token").read_text().strip()

    def start(self, **instead: str) -> None:
        """Start it, for the first time or again."""
        said, errors = self.folder / "said", self.folder / "errors"
        words, environ = ("serve", *self._words()), {**self.environ, **instead}
        self._process = dispatching().start(self.folder, *words, out=said, err=errors, environ=environ)
        give_up = time.monotonic() + PATIENCE
        while said.read_text().count("\n") < 3:
            assert self._process.poll() is None, errors.read_text()
            assert time.monotonic() < give_up
            time.sleep(0.01)
        found = re.match(
            r"dispatch: serving (http://\S+)\n.*\ndispatch: machines boot from (http://\S+)\n", said.read_text()
        )
        assert found is not None, said.read_text()
        self.url, self.boot_url = found[1], found[2]

    def _words(self) -> list[str]:
        """What its command line says; written anew for each start, for it keeps its ports."""
        api, boot = self._addresses()
        if self.file:
            (self.folder / "lab.yaml").write_text(self.file.replace("{api}", api).replace("{boot}", boot))
            return ["--config=lab.yaml", "--token-file=token"]
        files = (f"--db={self.folder}/lab.db", f"--cache={self.folder}/assets", f"--token-file={self.folder}/token")
        return ["--no-mdns", "--unknown-machines=welcome", f"--api={api}", f"--bind={boot}", *files, *self.words]

    def _addresses(self) -> tuple[str, str]:
        api, boot = (url.split("/")[2] if url else "127.0.0.1:0" for url in (self.url, self.boot_url))
        return api, boot

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send it this signal, and wait for its end."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(PATIENCE)

    def edit(self, before: str, after: str) -> None:
        """Put something else into its lab.yaml, and have it read that anew."""
        assert self._process is not None
        file = self.folder / "lab.yaml"
        file.write_text(file.read_text().replace(before, after))
        self._process.send_signal(signal.SIGHUP)

    def suspend(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.folder.mkdir(exist_ok=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
