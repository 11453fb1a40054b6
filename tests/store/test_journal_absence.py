"""A journal whose database server is away for a while."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from databases import Place, PostgresServer
from journals import SOON, write

from pytest_dispatch.core.errors import AwayError, JournalError
from pytest_dispatch.store.journal import Journal, console_row

LINES = "SELECT text FROM dispatch_console ORDER BY id"


@contextmanager
def opened(url: str, away: float = 60.0) -> Iterator[Journal]:
    with closing(Journal(url, away=away)) as journal:
        journal.open()
        yield journal


def lines_in(url: str) -> list[str]:
    found = Place(url)
    try:
        return [row[0] for row in found.all(LINES)]
    finally:
        found.engine.dispose()


def test_what_came_meanwhile_is_written_in_order_when_the_server_is_back(own_postgres: PostgresServer) -> None:
    missed: list[AwayError] = []
    away = threading.Event()
    with opened(own_postgres.url) as journal:

        def missing(error: AwayError) -> None:
            missed.append(error)
            away.set()

        journal.missing = missing
        write(journal, console_row("r", 1, 0.0, "before"))
        for absence in range(2):
            own_postgres.stop()
            waiting = [journal.write([console_row("r", 1, 0.0, f"{absence}.{number}")]) for number in range(20)]
            assert away.wait(SOON)
            assert not any(each.done() for each in waiting)
            own_postgres.start()
            for each in waiting:
                each.result(SOON)
            away.clear()
        write(journal, console_row("r", 1, 0.0, "after"))
        kept = [f"{absence}.{number}" for absence in range(2) for number in range(20)]
        assert lines_in(own_postgres.url) == ["before", *kept, "after"]
        with pytest.raises(JournalError, match="another lab is using it"):
            Journal(own_postgres.url).open()  # the lock was taken again
    assert len(missed) == 2  # once for each absence
    assert "its server does not answer" in str(missed[0])
    assert "s3cret" not in str(missed[0])


class Listener:
    """Stands between clients and a server; can cut a client off when the server has carried out a commit.

    Args:
        folder: Of the server's socket.
    """

    def __init__(self, folder: Path) -> None:
        self._server = folder / ".s.PGSQL.5432"
        self.folder = Path(tempfile.mkdtemp(prefix="between-"))
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.folder / ".s.PGSQL.5432"))
        self._socket.listen()
        self.cut = threading.Event()
        self.done = threading.Event()
        self._sockets = [self._socket]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        self._threads.append(threading.Thread(target=work, args=args))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                server = socket.socket(socket.AF_UNIX)
                self._sockets += client, server
                server.connect(str(self._server))
                committing = threading.Event()
                self._start(self._pass, client, server, committing, True)
                self._start(self._pass, server, client, committing, False)

    def _pass(self, one: socket.socket, other: socket.socket, committing: threading.Event, asks: bool) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if asks and self.cut.is_set() and b"COMMIT" in data:
                    committing.set()
                if not asks and committing.is_set():
                    self.cut.clear()
                    self.done.set()
                    break  # the server has carried it out, and nobody learns that
                other.sendall(data)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SOON)
        for each in self._sockets:
            each.close()
        shutil.rmtree(self.folder)


def test_a_commit_whose_answer_is_lost_is_not_made_twice(own_postgres: PostgresServer) -> None:
    with closing(Listener(own_postgres.folder)) as between:
        url = own_postgres.url.replace(str(own_postgres.folder), str(between.folder))
        with opened(url) as journal:
            write(journal, console_row("r", 1, 0.0, "before"))
            between.cut.set()
            write(journal, console_row("r", 1, 0.0, "once"))
            assert between.done.is_set()
            write(journal, console_row("r", 1, 0.0, "after"))
    assert lines_in(own_postgres.url) == ["before", "once", "after"]


def test_a_lab_that_was_replaced_meanwhile_writes_no_more(own_postgres: PostgresServer) -> None:
    with opened(own_postgres.url) as earlier:
        write(earlier, console_row("r", 1, 0.0, "earlier"))
        found = Place(own_postgres.url)
        found.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        found.engine.dispose()
        with opened(own_postgres.url) as later:
            write(later, console_row("r", 1, 0.0, "later"))
        done = earlier.write([console_row("r", 1, 0.0, "too late")])
        with pytest.raises(JournalError, match="another lab has written to it while its server was away"):
            done.result(SOON)
    assert lines_in(own_postgres.url) == ["earlier", "later"]


def test_a_server_that_does_not_come_back(own_postgres: PostgresServer) -> None:
    with opened(own_postgres.url, away=0.5) as journal:
        own_postgres.stop()
        done = journal.write([console_row("r", 1, 0.0, "x")])
        with pytest.raises(JournalError, match="and did not come back in time"):
            done.result(SOON)
        with pytest.raises(JournalError, match="and did not come back in time"):
            journal.write([console_row("r", 1, 0.0, "y")]).result(SOON)
        own_postgres.start()


def test_closing_does_not_wait_for_a_server_that_is_away(own_postgres: PostgresServer) -> None:
    away = threading.Event()
    with opened(own_postgres.url) as journal:
        journal.missing = lambda _error: away.set()
        own_postgres.stop()
        done = journal.write([console_row("r", 1, 0.0, "x")])
        assert away.wait(SOON)
        journal.close()
        with pytest.raises(JournalError, match="did not come back in time"):
            done.result(SOON)
    own_postgres.start()
