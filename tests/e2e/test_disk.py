"""A disk that fails under a session, or before it; and journals that pytest cannot use."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from disk import failing, killed, needs_shim
from faults import fault
from forks import FOR_ALL, Forks
from journals import ADVICE
from junitparser import JUnitXml
from scenes import PORT, SAYS, Play, Scene, Stage, Story
from strangers import Stranger
from waiting import PATIENCE

from pytest_dispatch.store.journal import Journal
from pytest_dispatch.store.schema import VERSION

pytestmark = [needs_shim, pytest.mark.draw(1 / 3, of=__name__)]

DEAF = Play(attempts=2, heard=False)
JUNIT = ("--junitxml=own.xml", "--dispatch-junit=cases.xml")
IN_JUNIT = {"passed": "passed", "failed": "failure"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("disks")) as made:
        yield made


def told(path: Path) -> dict[str, str]:
    """What a JUnit file says of each workload."""
    cases = [case for suite in JUnitXml.fromfile(str(path)) for case in suite]
    return {str(case.name): next((type(found).__name__.lower() for found in case.result), "passed") for case in cases}


def on_disk(scene: Scene) -> dict[str, str | None]:
    """Outcomes in the journal."""
    return dict(scene.rows("SELECT name, outcome FROM dispatch_runs"))


def untrue(scene: Scene, junit: dict[str, str]) -> Iterator[str]:
    """Outcomes that are told and are not so; of what ended as the disk failed, it may be told that it is not known."""
    for name, outcome in on_disk(scene).items():
        real = scene.play.outcomes[name]
        if outcome not in (None, real) or junit.get(name) not in (IN_JUNIT[real], "error"):
            yield f"{name}: {junit.get(name)}, on disk {outcome}"


def clean(said: str) -> None:
    """Nothing in it is for the plugin's authors alone."""
    assert "Traceback" not in said
    assert "INTERNALERROR" not in said


def fails_at(step: int, error: int) -> Story:
    """A session whose journal's disk fails from this step on; then the disk is mended, and the session resumed."""

    def story(scene: Scene, forks: Forks) -> bool:
        environ = failing(scene.journal, error, step=step, commits=True)
        code, said = scene.run(forks, *JUNIT, environ=environ)
        clean(said)
        if "cannot write it" not in said and "cannot open it" not in said:
            assert code == pytest.ExitCode.TESTS_FAILED, said
            return False
        lines = (line.rpartition("ERROR: ")[2] for line in said.splitlines())  # pytest may be "collecting ... " there
        assert len({line for line in lines if line.startswith("journal ")}) == 1, said
        if code != pytest.ExitCode.USAGE_ERROR:  # it came to running something
            for junit in ("own.xml", "cases.xml"):
                assert not [*untrue(scene, told(scene.folder / junit))], said
        if not scene.ended():
            code, said = scene.run(forks, "--dispatch-resume")
            clean(said)
            assert code == pytest.ExitCode.TESTS_FAILED, said
        return True

    return story


@fault(
    "The disk",
    "the disk is full, from any write or flush of a commit on",
    outcome="runs that ended before keep their outcome, all others are errors; nothing is acknowledged that is not on"
    " disk; with `--dispatch-resume`, once there is room, the session goes on",
    told="`cannot write it (database or disk is full)`, in the terminal and both JUnit files",
)
def test_a_session_whose_disk_is_full_can_be_resumed(stage: Stage) -> None:
    assert stage.walk(DEAF, lambda step: fails_at(step, errno.ENOSPC), sure=27, sampled=4) == []


@fault(
    "The disk",
    "the disk returns errors (EIO) in the middle of a session",
    outcome="likewise",
    told="`cannot write it (disk I/O error)`",
)
@pytest.mark.parametrize("step", [9, 16, 23])
@pytest.mark.draw(1)
def test_a_session_whose_disk_returns_errors_can_be_resumed(stage: Stage, step: int) -> None:
    assert stage.play(DEAF, fails_at(step, errno.EIO)) == (True, [])


def test_what_ended_before_the_disk_was_full_is_told(stage: Stage) -> None:
    """The first run is waited for and never ends; others are over long before it is told how."""

    def story(scene: Scene, forks: Forks) -> bool:
        sign = scene.folder / "full"
        first = Stranger(scene.host, PORT, "127.0.0.9", SAYS)
        environ = failing(scene.journal, errno.ENOSPC, sign=sign)
        with ThreadPoolExecutor(1) as pool:
            session = pool.submit(lambda: scene.run(forks, *JUNIT, environ=environ))
            try:
                assert first.takes() == "a.efi"
                with Stranger(scene.host, PORT, "127.0.0.2", SAYS):
                    until(lambda: list(on_disk(scene).values()).count(None) == 1)
            finally:
                sign.touch()  # which ends the session in any case
            assert first.says_that_it_booted() == 503
            _, said = session.result(PATIENCE)
        expected = {"a.efi": "error", "b.efi": "failure", "c.efi": "passed"}
        assert told(scene.folder / "own.xml") == expected, said
        assert told(scene.folder / "cases.xml") == expected, said
        assert "it reported failed: broken" in said
        return True

    stage.tell(Play(strangers=0), story)


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


# Journals that cannot be used, or only in part


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE dispatch_meta SET version = 99")
        db.commit()


def no_journal(path: Path) -> None:
    path.write_bytes(b"a picture, perhaps" * 1000)


ONE_LINE = "nothing is run, nothing is changed"


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        pytest.param(
            newer,
            f"expected version {VERSION} or an older one, found 99; use the pytest-dispatch that made it,"
            " or another file with --dispatch-db",
            marks=fault(
                "The disk", "the journal is of a newer version", outcome=ONE_LINE, told="one line, exit code 4"
            ),
        ),
        pytest.param(
            no_journal,
            "cannot open it (file is not a database)" + ADVICE,
            marks=fault(
                "The disk", "the journal's file is something else", outcome=ONE_LINE, told="one line, exit code 4"
            ),
        ),
    ],
)
def test_a_journal_that_cannot_be_used_is_refused_and_left_alone(
    stage: Stage, spoil: Callable[[Path], None], line: str
) -> None:
    def story(scene: Scene, forks: Forks) -> bool:
        journal = Journal(scene.journal)
        journal.open()
        journal.close()
        spoil(scene.journal)
        before = scene.journal.read_bytes()
        code, said = scene.run(forks)
        assert (code, said.strip()) == (pytest.ExitCode.USAGE_ERROR, f"ERROR: journal {scene.journal}: {line}")
        assert scene.journal.read_bytes() == before
        return True

    stage.tell(Play(strangers=0), story)


@fault(
    "The disk",
    "another session uses the journal",
    outcome=ONE_LINE,
    told="one line that says so, exit code 4",
)
def test_a_journal_in_use_is_refused(stage: Stage) -> None:
    def story(scene: Scene, forks: Forks) -> bool:
        journal = Journal(scene.journal)
        journal.open()
        code, said = scene.run(forks)
        journal.close()
        told = "another lab is using it; wait for it to end, or use another journal with --dispatch-db or --db"
        assert (code, said.strip()) == (pytest.ExitCode.USAGE_ERROR, f"ERROR: journal {scene.journal}: {told}")
        return True

    stage.tell(Play(strangers=0), story)


@fault("The disk", "the disk is read-only", outcome=ONE_LINE, told="one line, exit code 4")
def test_a_journal_on_a_read_only_disk_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.efi").write_bytes(b"MZ")
    pytest_call = [sys.executable, "-m", "pytest", *FOR_ALL, "--dispatch-dir=w"]
    where = ["--dispatch-bind=127.0.0.1:0", "--dispatch-no-mdns"]
    own = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    mounted = f'mount -t tmpfs -o ro none {disk} || exit 77; exec "$@"'

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    journal, why = f"{disk}/journal.db", "Read-only file system"
    ran = run(*own, "sh", "-c", mounted, "sh", *pytest_call, *where, f"--dispatch-db={journal}")
    if ran.returncode in (1, 77) and ("mount" in ran.stderr or "unshare" in ran.stderr):  # mounting is not allowed here
        journal, why = "/sys/journal.db", "Permission denied"  # where nobody may make a file
        ran = run(*pytest_call, *where, f"--dispatch-db={journal}")
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR, ran.stdout + ran.stderr
    assert ran.stderr.strip() == f"ERROR: journal {journal}: cannot open it ({why}){ADVICE}"


def into_one_file(path: Path) -> None:
    """What a killed session left in the journal's log goes into the journal itself."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("SELECT * FROM dispatch_meta").fetchall()


def zeros_in_the_middle(path: Path) -> None:
    into_one_file(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(bytes(4096))


def cut(path: Path) -> None:
    into_one_file(path)
    os.truncate(path, path.stat().st_size * 2 // 3)


DAMAGED = "what can be read is taken over into a fresh one, the rest is run again; the damaged one is kept"
SAID = "a line at the top and at the end: what is damaged, where it is kept, what was taken over"


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(
            zeros_in_the_middle,
            marks=fault("The disk", "the journal is damaged in the middle", outcome=DAMAGED, told=SAID),
        ),
        pytest.param(cut, marks=fault("The disk", "the journal is cut at the end", outcome=DAMAGED, told=SAID)),
    ],
)
@pytest.mark.draw(1)
def test_a_damaged_journal_is_salvaged_and_kept(stage: Stage, spoil: Callable[[Path], None]) -> None:
    def story(scene: Scene, forks: Forks) -> bool:
        code, said = scene.run(forks, environ=killed(scene.journal, 30, commits=True))
        assert code == -signal.SIGKILL, said
        spoil(scene.journal)
        code, said = scene.run(forks, "--dispatch-resume")
        clean(said)
        assert code == pytest.ExitCode.TESTS_FAILED, said
        lines = [line for line in said.splitlines() if line.startswith(f"journal {scene.journal}: damaged (")]
        assert len(lines) == 2, said
        assert scene.journal.with_name("journal.db.damaged").exists()
        assert on_disk(scene) == scene.play.outcomes
        return True

    stage.tell(DEAF, story)
