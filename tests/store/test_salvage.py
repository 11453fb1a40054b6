"""A journal that is damaged, wherever the damage is."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from disk import failing, needs_shim, preloaded
from faults import fault
from journals import A, changes_of, pending, session
from queue_bench import QueueBench

from pytest_dispatch.core.model import Outcome, Run
from pytest_dispatch.store.journal import Journal, change_rows, console_row, issue_row, run_rows, session_row
from pytest_dispatch.workloads.boot.lifecycle import State

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
            journal.write(change_rows(change)).result(SOON)
    journal.write([issue_row(pending(f"s.{number}")) for number in range(5)]).result(SOON)


def opened(path: Path) -> tuple[str, list[Run], int]:
    """What is said of a journal that is opened, its runs, and how many letters it has."""
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


@pytest.mark.parametrize(("scramble", "every"), [("zeros", 3), ("noise", 5), ("text", 4)])
def test_any_page(tmp_path: Path, whole: bytes, scramble: str, every: int) -> None:
    """What is lost is little, what is left goes on, and the damaged journal is still there."""
    saved = []
    for at in range(PAGE, len(whole), every * PAGE):
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
def test_one_that_was_cut(tmp_path: Path, whole: bytes, part: float) -> None:
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
def test_its_log(killed: Path, part: float, length: int, pending_issues: range) -> None:
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
def test_no_room_to_mend_it(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(whole[: len(whole) // 2])
    environ = {**preloaded(), **failing(Path(f"{path}.new"), errno.ENOSPC, step=5)}
    said = subprocess.run([sys.executable, "-c", OPENS, path], env=environ, check=True, capture_output=True, text=True)
    advice = "; check the disk, or use another file with --dispatch-db"
    assert said.stdout == f"journal {path}: cannot open it (database or disk is full){advice}\n"
    assert path.read_bytes() == whole[: len(whole) // 2]
    assert not list(tmp_path.glob("*.new*"))
    assert not list(tmp_path.glob("*.damaged*"))
