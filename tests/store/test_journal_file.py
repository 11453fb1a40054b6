"""The journal as a file: how it is kept, and everything that a path may turn out to be."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from journals import ADVICE
from told_errors import one_line

from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.store.journal import Journal, console_row

pytestmark = pytest.mark.draw(1 / 2, of=__name__)

SOON = 60.0  # seconds that anything here may take; nothing takes as long


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def connections() -> Iterator[list[Any]]:
    """The connections that the journal makes, to be asked how they are set up."""
    made: list[Any] = []

    def note(connection: Any, _record: object) -> None:
        made.append(connection)

    sa.event.listen(sa.Engine, "connect", note)
    yield made
    sa.event.remove(sa.Engine, "connect", note)


def refusal(path: Path) -> str:
    """What is said of a path that cannot be a journal, in one line; nothing is left locked."""
    for _ in range(2):
        with pytest.raises(JournalError) as caught:
            Journal(path).open()
    return one_line(caught.value)


SETTINGS = ("journal_mode", "synchronous")


def test_every_commit_is_flushed_to_disk(path: Path, connections: list[Any]) -> None:
    journal = Journal(path)
    journal.open()
    journal.write([console_row("r", 1, 0.0, "x")]).result(SOON)
    pragmas = [[made.execute(f"PRAGMA {name}").fetchone()[0] for made in connections] for name in SETTINGS]
    journal.close()
    assert connections
    assert [set(found) for found in pragmas] == [{"wal"}, {2}]  # 2 is FULL


LIGHT = """
import sys
from pytest_dispatch.core.model import Policy
from pytest_dispatch.store.journal import Journal, SessionRecord, session_row

journal = Journal(sys.argv[1])
journal.open()
journal.write([session_row(SessionRecord(id="s", source="dir", opened=1.0, policy=Policy()))]).result()
print(*(name for name in sys.modules if name in ("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql")))
"""


def test_a_file_needs_nothing_of_postgresql(path: Path) -> None:
    used = subprocess.run([sys.executable, "-c", LIGHT, path], check=True, capture_output=True, text=True).stdout
    assert used.split() == ["sqlalchemy.dialects.sqlite"]


def test_its_folder_is_made(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a" / "b" / "journal.db")
    journal.open()
    journal.close()
    assert (tmp_path / "a" / "b" / "journal.db").exists()


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)
    assert refusal(path) == f"journal {path}: cannot open it (file is not a database){ADVICE}"
    assert path.read_bytes() == b"not a database" * 1000


def test_somebody_elses_database_is_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    assert refusal(path) == (
        f"journal {path}: expected a journal, found a database with the table bookmarks;"
        " use another file with --dispatch-db"
    )
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    journal = Journal(path)
    journal.open()
    journal.write([console_row("r", 1, 0.0, "x")]).result(SOON)
    journal.close()


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"journal {tmp_path}: cannot open it (unable to open database file){ADVICE}"


def test_a_path_below_a_file_is_refused(path: Path) -> None:
    path.touch()
    below = path / "journal.db"
    assert refusal(below) == f"journal {below}: cannot open it (File exists){ADVICE}"


TRIES = """
import os, sys
from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.store.journal import Journal, console_row

journal = Journal(sys.argv[2])  # all is imported while it may be
journal.open()
journal.close()
if os.geteuid() == 0:
    os.seteuid(65534)
journal = Journal(sys.argv[1])
try:
    journal.open()
    journal.write([console_row("r", 1, 0.0, "x")]).result()
except JournalError as error:
    print(error)
"""


def tried(path: Path, elsewhere: Path) -> str:
    """What somebody without rights is told who tries to use it."""
    command = [sys.executable, "-c", TRIES, str(path), str(elsewhere / "other.db")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that every user can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="journal-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_a_folder_that_is_read_only(open_to_all: Path, tmp_path: Path) -> None:
    open_to_all.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
    path = open_to_all / "journal.db"
    assert tried(path, tmp_path) == f"journal {path}: cannot open it (Permission denied){ADVICE}\n"


def test_a_file_that_is_read_only(open_to_all: Path, tmp_path: Path) -> None:
    path = open_to_all / "journal.db"
    journal = Journal(path)
    journal.open()
    journal.close()
    open_to_all.chmod(0o777)
    Path(f"{path}.lock").chmod(0o666)
    path.chmod(0o444)
    assert tried(path, tmp_path) == f"journal {path}: cannot open it (attempt to write a readonly database){ADVICE}\n"


FILLS = """
import resource, signal, sys
from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.store.journal import Journal, console_row

journal = Journal(sys.argv[1])
journal.open()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
written, said = 0, []
for number in range(100):
    try:
        journal.write([console_row("r", 1, 0.0, "x" * 50_000)]).result()
        written += 1
    except JournalError as error:
        said.append(str(error))
print(written, len(said), len(set(said)), said[0], sep="\\n")
"""


def test_on_a_full_disk_what_was_acknowledged_stays_and_all_else_is_refused(path: Path) -> None:
    told = subprocess.run([sys.executable, "-c", FILLS, path], check=True, capture_output=True, text=True)
    written, refused, different, text = told.stdout.splitlines()
    assert (int(written) > 3, int(written) + int(refused), different) == (True, 100, "1")
    assert text.startswith(f"journal {path}: cannot write it (")
    assert text.endswith(ADVICE)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM dispatch_console").fetchone() == (int(written),)


def test_a_write_that_hangs_holds_nobody_up(path: Path) -> None:
    journal = Journal(path)
    journal.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = journal.write([console_row("r", 1, 0.0, "x")])
        journal.close(0.05)
        assert not done.done()
        with pytest.raises(JournalError, match="another lab is using it"):
            Journal(path).open()
        other.execute("COMMIT")
    done.result(SOON)
    journal.close()
    again = Journal(path)
    again.open()
    again.close()


@pytest.mark.parametrize(
    "url", ["://", "nosuchdatabase://h/db", "postgresql+nosuchdriver://me:s3cret@h/db", "sqlite://me:s3cret@h/db"]
)
def test_a_url_that_means_nothing(url: str) -> None:
    with pytest.raises(JournalError, match="expected a file, or an SQLAlchemy URL such as postgres") as caught:
        Journal(url)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["feature%2Ffoo", "100%25", "what?now", "a?mode=ro", "b#c", "d e"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """As branches and build servers name theirs."""
    path = tmp_path / name / "journal.db"
    for _ in range(2):
        path.parent.mkdir(exist_ok=True)
        journal = Journal(path)
        journal.open()
        journal.write([console_row("r", 1, 0.0, "x")]).result(SOON)
        journal.close()
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # the next one has to mend it
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert {"journal.db", "journal.db.lock"} < {each.name for each in path.parent.iterdir()}
