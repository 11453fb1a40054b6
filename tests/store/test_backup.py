"""A journal that is copied while it is in use, and put back."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from journals import begin, refusal, session

from pytest_dispatch.store.backup import backup, restore
from pytest_dispatch.store.journal import Journal, console_row, session_row

SOON = 60.0  # seconds that anything here may take; nothing takes as long


def newest(path: Path) -> str:
    with closing(Journal(path)) as journal:
        journal.open()
        found = journal.reader.last_unfinished("dir")
        return found.id if found else ""


def test_one_that_is_in_use_is_copied_as_it_is_at_that_moment(tmp_path: Path) -> None:
    path, file = tmp_path / "journal.db", tmp_path / "backup.db"
    with closing(Journal(path)) as journal:
        journal.open()
        begin(journal, session("s"))
        backup(path, file)
        begin(journal, session("t", opened=2.0))
    assert newest(path) == "t"
    assert restore(path, file) == tmp_path / "journal.db.replaced"
    assert newest(path) == "s"
    assert newest(tmp_path / "journal.db.replaced") == "t"
    assert not Path(f"{file}-wal").exists()


def test_nobody_else_may_read_a_copy_or_what_is_put_back(tmp_path: Path) -> None:
    path, file = tmp_path / "journal.db", tmp_path / "backup.db"
    with closing(Journal(path)) as journal:
        journal.open()
    backup(path, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    restore(path, file)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_one_is_put_where_there_is_none(tmp_path: Path) -> None:
    path, file = tmp_path / "journal.db", tmp_path / "backup.db"
    with closing(Journal(path)) as journal:
        journal.open()
        begin(journal, session("s"))
    backup(path, file)
    there = tmp_path / "a" / "there.db"
    assert restore(there, file) is None
    assert newest(there) == "s"


def test_a_backup_of_version_1_is_brought_up_when_it_is_opened(tmp_path: Path) -> None:
    old = Path(__file__).parent / "journals" / "version-1.db"
    restore(tmp_path / "journal.db", Path(shutil.copyfile(old, tmp_path / "backup.db")))
    with closing(Journal(tmp_path / "journal.db")) as journal:
        journal.open()
        assert journal.reader.last_unfinished("w") is not None


def test_what_cannot_be_copied(tmp_path: Path) -> None:
    path, file = tmp_path / "journal.db", tmp_path / "backup.db"
    assert refusal(lambda: backup(path, file)) == f"journal {path}: expected a journal, found no file"
    path.touch()
    assert refusal(lambda: backup(path, file)) == f"journal {path}: expected a journal, found an empty database"
    path.write_bytes(b"a picture, perhaps" * 1000)
    assert "cannot copy it (file is not a database)" in refusal(lambda: backup(path, file))
    assert not file.exists()
    file.write_text("mine")
    told = f"journal {path}: expected a new file for its backup, but {file} is there already; name another"
    assert refusal(lambda: backup(path, file)) == told
    assert file.read_text() == "mine"


def test_what_cannot_be_put_back(tmp_path: Path) -> None:
    path, file = tmp_path / "journal.db", tmp_path / "backup.db"
    with closing(Journal(path)) as journal:
        journal.open()
        journal.write([session_row(session("s")), console_row("r", 1, 0.0, "x")]).result(SOON)
        assert refusal(lambda: restore(path, file)) == f"journal {file}: expected a journal, found no file"
        backup(path, file)
        assert "another lab is using it" in refusal(lambda: restore(path, file))
    before = path.read_bytes()
    file.write_bytes(b"a picture, perhaps" * 1000)
    assert "cannot restore it (file is not a database)" in refusal(lambda: restore(path, file))
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.new")) + list(tmp_path.glob("*.replaced"))


@pytest.mark.parametrize(("act", "instead"), [(backup, "pg_dump"), (restore, "pg_restore")])
def test_a_server_has_programs_of_its_own(act: Callable[[str, Path], object], instead: str, tmp_path: Path) -> None:
    told = refusal(lambda: act("postgresql+psycopg://me:s3cret@h/db", tmp_path / "backup.db"))
    assert told.endswith(f"a database on a server; use {instead}")
    assert "s3cret" not in told
