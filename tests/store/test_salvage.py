"""A journal that is damaged, wherever the damage is."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from disk import failing, needs_shim, preloaded
from faults import fault
from journals import A, changes_of, pending, session
from queue_bench import QueueBench
from torture import larger

from pytest_dispatch.core.ended_runs import HistoryEntry, history_entry
from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.core.history_search import read_search
from pytest_dispatch.core.known_issues import Failure, Lane
from pytest_dispatch.core.model import Outcome, Run
from pytest_dispatch.core.run_series import Series
from pytest_dispatch.store.history_query import Page
from pytest_dispatch.store.history_reader import HistoryReader
from pytest_dispatch.store.history_rows import history_row
from pytest_dispatch.store.journal import Journal, console_row, issue_row, run_rows, session_row
from pytest_dispatch.store.row_writing import failure_row
from pytest_dispatch.store.salvage import salvage
from pytest_dispatch.store.schema import WORDS_INDEX
from pytest_dispatch.support.host_boot import boot_number
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

PAGE = 4096
SOON = 60.0  # seconds that anything here may take; nothing takes as long
RUNS = 100


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a journal with an interrupted session, of a lab that was stopped."""
    path = tmp_path_factory.mktemp("whole") / "journal.db"
    journal = Journal(path)
    journal.open()
    fill(journal)
    journal.close()
    return path.read_bytes()


def fill(journal: Journal) -> None:
    bench = QueueBench(*(f"w{n}" for n in range(RUNS)))
    journal.write([session_row(session("s"))])
    journal.write([row for run in bench.queue.of_session("s") for row in run_rows(run)])
    for number in range(RUNS // 2):
        bench.boot(A)
        bench.put(A, f"report {number}", Outcome.FAILED, body="x" * (20 * PAGE if number == 7 else 100))
        journal.write([console_row(f"s.{number}", 1, float(line), "a line " * 5) for line in range(50)])
        for change in changes_of(bench):
            journal.write(run_rows(change.run)).result(SOON)
    journal.write([issue_row(pending(f"s.{number}")) for number in range(5)]).result(SOON)


def opened(path: Path) -> tuple[str, list[Run], int]:
    """What is said of a journal that is opened, its runs, and how many issues wait to be filed."""
    journal = Journal(path)
    journal.open()
    try:
        found = journal.reader.last_unfinished("dir")
        runs = journal.reader.runs(found.id) if found else []
        pending_issues = journal.reader.pending_issues()
        journal.write([console_row("r", 1, 0.0, "x")]).result(SOON)
    finally:
        journal.close()
    return journal.damage, runs, len(pending_issues)


def consistent(runs: list[Run]) -> bool:
    """Whether no run goes on without the reports that it had: it would pass by silence."""
    reported = (run for run in runs if run.attempt.state in (State.REPORTED, State.FINISHED))
    return all(run.outcome is not None or run.attempt.reports for run in reported)


def test_a_whole_one_is_left_alone(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(whole)
    damage, runs, pending_issues = opened(path)
    assert (damage, len(runs), pending_issues) == ("", RUNS, 5)
    assert not list(tmp_path.glob("*damaged*"))


SCRAMBLES: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda page: bytes(len(page)),
    "noise": lambda page: bytes(byte ^ 0x5A for byte in page),
    "text": lambda page: page[:2000] + b"?" * 200 + page[2200:],
}


@pytest.mark.parametrize(("scramble", "every"), [("zeros", 9), ("noise", 15), ("text", 12)])
def test_most_runs_are_salvaged_whichever_page_is_damaged(
    tmp_path: Path, whole: bytes, scramble: str, every: int
) -> None:
    """What is lost is little, what is left goes on, and the damaged journal is still there."""
    saved = []
    for at in range(PAGE, len(whole), larger(every, 1) * PAGE):
        path = tmp_path / str(at) / "journal.db"
        path.parent.mkdir()
        path.write_bytes(whole[:at] + SCRAMBLES[scramble](whole[at : at + PAGE]) + whole[at + PAGE :])
        before = path.read_bytes()
        damage, runs, pending_issues = opened(path)
        kept = path.with_name("journal.db.damaged")
        assert kept.exists() == bool(damage)
        if damage:
            assert kept.read_bytes() == before
            assert damage.startswith(f"journal {path}: damaged (")
            assert f"kept as {kept.name}" in damage
            saved.append(len(runs) + pending_issues)
        assert consistent(runs), damage
        assert opened(path)[0] == ""
    assert len(saved) > 3
    assert sorted(saved)[len(saved) // 2] == RUNS + 5  # most pages hold nothing that the next session needs
    assert sum(saved) > len(saved) * RUNS * 3 // 4


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_what_can_be_read_of_one_that_was_cut_is_salvaged(tmp_path: Path, whole: bytes, part: float) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(whole[: int(len(whole) * part)])
    damage, runs, _ = opened(path)
    assert "damaged (" in damage
    assert consistent(runs)
    assert (len(runs) > RUNS // 2) == (part >= 0.9)


def test_one_that_is_damaged_again_is_kept_beside_the_first(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "journal.db"
    for name in ("journal.db.damaged", "journal.db.damaged1"):
        path.write_bytes(whole[: len(whole) // 2])
        assert f"kept as {name};" in opened(path)[0]
        assert (tmp_path / name).read_bytes() == whole[: len(whole) // 2]


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A journal as a killed lab leaves it: what it wrote is in the log."""
    there, path = tmp_path / "there.db", tmp_path / "journal.db"
    journal = Journal(there)
    journal.open()
    journal.write([session_row(session("s"))]).result(SOON)
    for number in range(60):
        journal.write([issue_row(pending(f"s.{number:02}"))]).result(SOON)
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{there}{suffix}", f"{path}{suffix}")
    journal.close()
    return path


@pytest.mark.parametrize(
    ("part", "length", "pending_issues"),
    [
        pytest.param(1.0, 0, range(60, 61), id="whole"),
        pytest.param(
            0.5,
            100,
            range(1, 50),
            id="damaged in the middle",
            marks=fault(
                "The disk",
                "the log beside the journal is damaged (`journal.db-wal`), where a lab was killed",
                outcome="the journal goes on from the last commit before the damage; what came later is lost",
                told="nothing: SQLite does not tell it from a commit that was cut short",
            ),
        ),
        pytest.param(0.5, 10**9, range(1, 50), id="cut"),
    ],
)
def test_a_damaged_log_is_read_up_to_the_last_commit_before(
    killed: Path, part: float, length: int, pending_issues: range
) -> None:
    """SQLite goes on from the last commit before the damage, and tells nobody."""
    log = Path(f"{killed}-wal")
    before = log.read_bytes()
    at = int(len(before) * part)
    left = before[:at] if length > len(before) else before[:at] + b"?" * length + before[at + length :]
    log.write_bytes(left)
    damage, _, found = opened(killed)
    assert found in pending_issues
    assert damage == ""
    assert not list(killed.parent.glob("*damaged*"))


OPENS = """
import sys
from pytest_dispatch.core.errors import JournalError
from pytest_dispatch.store.journal import Journal

try:
    Journal(sys.argv[1]).open()
except JournalError as error:
    print(error)
"""


@needs_shim
def test_without_room_to_mend_it_nothing_is_changed(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(whole[: len(whole) // 2])
    environ = {**preloaded(), **failing(Path(f"{path}.new"), errno.ENOSPC, step=5)}
    said = subprocess.run([sys.executable, "-c", OPENS, path], env=environ, check=True, capture_output=True, text=True)
    advice = "; check the disk, or use another file with --dispatch-db"
    assert said.stdout == f"journal {path}: cannot open it (database or disk is full){advice}\n"
    assert path.read_bytes() == whole[: len(whole) // 2]
    assert not list(tmp_path.glob("*.new*"))
    assert not list(tmp_path.glob("*.damaged*"))


HISTORY = "DELETE FROM dispatch_issues; PRAGMA user_version = {}"


@pytest.mark.parametrize(
    ("log", "boot", "checked"),
    [
        pytest.param(True, boot_number(), False, id="its process was killed"),
        pytest.param(True, boot_number() ^ 1, True, id="the computer lost its power"),
        pytest.param(True, 0, True, id="nobody knows"),
        pytest.param(False, 0, False, id="it ended in order"),
    ],
)
def test_history_of_a_long_one_is_read_only_where_power_was_lost(
    tmp_path: Path, whole: bytes, log: bool, boot: int, checked: bool
) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(HISTORY.format(boot))
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'dispatch_reports'").fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
    Path(f"{path}-wal").touch() if log else Path(f"{path}-wal").unlink(missing_ok=True)
    damaged = bytearray(path.read_bytes())
    damaged[(root - 1) * size : root * size] = b"?" * size
    path.write_bytes(damaged)
    assert bool(salvage(path, short=0)) == checked


def ended(name: str, place: int) -> HistoryEntry:
    (run,) = QueueBench("a").queue.of_session("s")
    found = history_entry(run, Outcome.FAILED, place, source="w", who="ada", digest="")
    return replace(found, run=replace(found.run, run=name, reason="out of memory"))


def found(journal: Journal) -> list[str]:
    return [run.run for run in HistoryReader(journal._database).page(read_search("memory", 0.0), Page(None, 10))]


def test_history_is_salvaged_with_its_words(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(whole)
    with closing(Journal(path)) as journal:
        journal.open()
        journal.write([history_row(ended(f"s.{number}", number + 1)) for number in range(3)]).result(SOON)
    content = path.read_bytes()
    path.write_bytes(content[: -8 * PAGE] + bytes(8 * PAGE))
    with closing(Journal(path)) as journal:
        journal.open()
        assert "damaged" in journal.damage
        assert found(journal) == ["s.2", "s.1", "s.0"]


def test_an_index_of_words_that_takes_nothing_is_made_anew_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        journal.open()
        journal.write([history_row(ended("s.0", 1))]).result(SOON)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE {WORDS_INDEX}_data SET block = zeroblob(3)")
    with closing(Journal(path)) as journal:
        journal.open()
        with pytest.raises(JournalError):
            journal.write([history_row(ended("s.1", 2))]).result(SOON)
    with closing(Journal(path)) as journal:
        journal.open()
        assert journal.damage == ""
        journal.write([history_row(ended("s.2", 3))]).result(SOON)
        assert found(journal) == ["s.2", "s.0"]


@pytest.mark.parametrize("column", ["links", "cases"])
def test_a_failure_that_cannot_be_read_is_left_out(tmp_path: Path, column: str) -> None:
    """Else no lab could start with it."""
    lane = Lane(Series("boot", "w", "a.efi"), "")
    known = [
        Failure(lane=lane, digest=digest, outcome=Outcome.FAILED, cases=("x",), run="s.1", first=1.0, last=1.0)
        for digest in "ab"
    ]
    with closing(Journal(tmp_path / "journal.db")) as journal:
        journal.open()
        journal.write([failure_row(each) for each in known]).result(SOON)
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        db.execute(f"UPDATE dispatch_failures SET {column} = '[' WHERE digest = 'a'")
        db.commit()
    with closing(Journal(tmp_path / "journal.db")) as journal:
        journal.open()
        assert journal.damage
        assert journal.reader.issues.failures() == known[1:]
