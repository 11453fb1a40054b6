"""Journals of older versions: opened, brought up to today's, and gone on with."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from databases import Place
from disk import killed, needs_shim, preloaded
from forks import Forks
from journals import ADVICE, refusal
from scenes import OWN, Scene, Stage, Story, wrong_with
from torture import TORTURE, drawn

from pytest_dispatch.core.history_search import read_search
from pytest_dispatch.core.model import Case, KnownBy, Outcome, Phase, Report, Run
from pytest_dispatch.store import schema
from pytest_dispatch.store.history_query import Page
from pytest_dispatch.store.history_reader import HistoryReader
from pytest_dispatch.store.journal import Journal, console_row
from pytest_dispatch.store.migrate import migrate
from pytest_dispatch.store.migrations import version_1_shapes
from pytest_dispatch.store.migrations.versions import version_2
from pytest_dispatch.store.row_writing import report_digest

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

#: Journals as labs left them that were killed: by the last make of version 1, by the last one without kinds, and by one
#: of version 2.
LAST, FIRST, SECOND = (
    Path(__file__).parent / "journals" / f"{name}.db" for name in ("version-1", "version-1-first", "version-2")
)
SOON = 60.0  # seconds that anything here may take; nothing takes as long


@pytest.fixture(params=[LAST, FIRST, SECOND], ids=["last make of 1", "first makes of 1", "version 2"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(request.param, tmp_path / "journal.db"))


def runs_in(journal: str | Path) -> dict[str, Run]:
    """The runs of the session that was interrupted, in a journal that is opened and written."""
    with closing(Journal(journal)) as opened:
        opened.open()
        assert opened.damage == ""
        found = opened.reader.last_unfinished("w")
        assert found is not None
        opened.write([console_row("r", 1, 0.0, "x")]).result(SOON)
        return {run.workload.name: run for run in opened.reader.runs(found.id)}


def copied(file: Path, to: Place) -> None:
    """Put a journal of version 1 into another database, table by table."""
    source, tables = sa.create_engine(f"sqlite:///{file}"), sa.MetaData()
    tables.reflect(source)
    for table in tables.tables.values():
        for column in table.columns:
            column.type = column.type.as_generic()
    tables.create_all(to.engine)
    with source.connect() as reading, to.engine.begin() as writing:
        for table in tables.sorted_tables:
            rows = [dict(row) for row in reading.execute(sa.select(table)).mappings()]
            if rows:
                writing.execute(sa.insert(table), rows)
            if (
                "id" in table.columns
                and writing.dialect.name == "postgresql"
                and rows
                and isinstance(rows[0]["id"], int)
            ):
                writing.execute(sa.text(f"SELECT setval('{table.name}_id_seq', {max(row['id'] for row in rows)})"))
    source.dispose()


def test_a_journal_that_is_made_anew_needs_no_alembic(tmp_path: Path) -> None:
    program = (
        "import sys; from pytest_dispatch.store.journal import Journal;"
        " journal = Journal(sys.argv[1]); journal.open(); journal.close(); print('alembic' in sys.modules)"
    )
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, "-c", program, tmp_path / "journal.db"], check=True, capture_output=True, text=True
        )
        assert ran.stdout == "False\n"


def test_what_the_last_make_of_version_1_left(where: Place) -> None:
    copied(LAST, where)
    runs = runs_in(where.where)
    assert {name: (run.outcome, run.attempt.state) for name, run in runs.items()} == {
        "a.efi": (None, "reported"),
        "b.efi": (Outcome.FAILED, "finished"),
        "c.efi": (None, "assigned"),
    }
    run = runs["b.efi"]
    assert [moment.phase for moment in run.attempt.history][::3] == [Phase.QUEUED, Phase.STARTING, Phase.OVER]
    assert run.workload.payload["scenario"] == "fail"
    assert run.limits["boot"] == 900.0
    assert [(each.machine, each.known_by) for each in run.attempt.placements] == [("sim-2", KnownBy.TOKEN)]
    assert run.attempt.counts == {"sent": 1, "report": 1}
    (report,) = run.attempt.reports
    assert [case.outcome for case in report.cases] == [Outcome.FAILED]
    with closing(Journal(where.where)) as journal:
        assert journal.reader.knows(run.id, 1, report), "one that comes again is known"
        assert [(each.issue.title, each.repo, each.tries) for each in journal.reader.pending_issues()] == [
            ("b.efi", "me/lab-9", 0)
        ]


def test_what_the_first_makes_left(where: Place) -> None:
    copied(FIRST, where)
    runs = runs_in(where.where)
    run = runs["a.efi"]
    assert (run.workload.kind, run.workload.payload["media"], run.workload.payload["size"]) == ("boot", "efi", 502)
    assert [moment.phase for moment in run.attempt.history] == [
        Phase.QUEUED,
        *[Phase.STARTING] * 3,
        Phase.RUNNING,
        Phase.SETTLING,
    ]
    assert [(each.machine, each.known_by) for each in run.attempt.placements] == [("sim-1", KnownBy.TOKEN)]
    assert run.attempt.counts == {"sent": 1, "break": 0, "report": 1}
    assert run.limits == {
        "assign": 30.0,
        "boot": 900.0,
        "report": 30.0,
        "download": 502 / 2**16,
        "reporting": 3600.0,
    }


def own_tables(place: Place) -> list[str]:
    """Its tables, without those of which SQLite makes the index of words."""
    return [name for name in sa.inspect(place.engine).get_table_names() if not name.startswith(schema.WORDS_INDEX)]


def test_its_tables_are_those_of_one_that_is_made_anew(where: Place, tmp_path: Path) -> None:
    """And nothing of Alembic's is left."""
    copied(LAST, where)
    runs_in(where.where)
    with closing(Journal(tmp_path / "new.db")) as anew:
        anew.open()
    fresh = Place(str(tmp_path / "new.db"))
    tables = own_tables(where)
    assert sorted(tables) == sorted(own_tables(fresh))
    for table in tables:
        found, made = sa.inspect(where.engine), sa.inspect(fresh.engine)
        columns = [[column["name"] for column in each.get_columns(table)] for each in (found, made)]
        assert [name for name in columns[0] if name != schema.DOCUMENT] == columns[1], table
        assert (
            found.get_pk_constraint(table)["constrained_columns"]
            == made.get_pk_constraint(table)["constrained_columns"]
        ), table
        indexes = [
            {
                (index["name"], *index["column_names"])
                for index in each.get_indexes(table)
                if not index["unique"] and index["column_names"] != [schema.DOCUMENT]
            }
            for each in (found, made)
        ]
        assert indexes[0] == indexes[1], table
    fresh.engine.dispose()
    assert where.all("SELECT version FROM dispatch_meta") == [(schema.VERSION,)]


def test_what_version_2_left(where: Place) -> None:
    copied(SECOND, where)
    runs = runs_in(where.where)
    assert {name: (run.outcome, run.attempt.state) for name, run in runs.items()} == {
        "a.efi": (Outcome.PASSED, "finished"),
        "b.efi": (Outcome.FAILED, "finished"),
        "c.efi": (None, "downloading"),
    }
    with closing(Journal(where.where)) as journal:
        lines = journal.reader.console(runs["b.efi"].session, 100)
        assert len(lines) == 34, "each of its rows has one line"
        assert [(each.issue.title, each.repo) for each in journal.reader.pending_issues()] == [("b.efi", "me/lab-9")]


def test_runs_that_had_ended_are_in_history(where: Place) -> None:
    copied(SECOND, where)
    runs = runs_in(where.where)
    with closing(Journal(where.where)) as journal:
        found = HistoryReader(journal._database).page(read_search("", 0.0), Page(None, 10))
    assert {each.name: (each.outcome, each.attempts) for each in found} == {
        name: (run.outcome, len(run.attempts)) for name, run in runs.items() if run.outcome is not None
    }
    assert [each.ended for each in found] == sorted((each.ended for each in found), reverse=True)
    assert {each.source for each in found} == {"w"}


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT version FROM dispatch_meta").fetchone()[0])


def _for_todays_github(db: sqlite3.Connection, scene: Scene) -> None:
    """Move the issues of a journal to another GitHub: the one that they were for is gone."""
    if db.execute("SELECT 1 FROM dispatch_meta WHERE version = 2").fetchone():
        db.execute("UPDATE dispatch_issues SET repo = ?, api = ?", [scene.repo, scene.github.url])
        return
    for (record,) in db.execute("SELECT CAST(record AS TEXT) FROM dispatch_outbox").fetchall():
        pending = record.replace("me/lab-9", scene.repo).split('"api":"')
        told = pending[0] + '"api":"' + scene.github.url + pending[1][pending[1].index('"') :]
        db.execute("UPDATE dispatch_outbox SET record = ?", [told.encode()])


def resumed(old: Path) -> Story:
    """A session that goes on with a copy of a journal of an older version."""

    def story(scene: Scene, forks: Forks) -> bool:
        shutil.copyfile(old, scene.journal)
        with closing(sqlite3.connect(scene.journal)) as db, db:
            _for_todays_github(db, scene)
        code, said = scene.run(forks, "--dispatch-resume")
        assert code == pytest.ExitCode.TESTS_FAILED, said
        assert "resumed" in said
        return True

    return story


@needs_shim
def test_its_session_goes_on_and_its_issues_are_filed(tmp_path: Path, old: Path) -> None:
    with Stage(tmp_path) as stage:
        scene, _, _ = stage.tell(OWN, resumed(old))
        assert [*wrong_with(scene)] == []


# By itself


def test_migrate_says_of_which_version_it_was(old: Path) -> None:
    was = version_of(old)
    assert was < schema.VERSION
    assert [migrate(old) for _ in range(2)] == [was, schema.VERSION]
    assert len(runs_in(old)) == 3


def test_nothing_to_migrate(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    assert refusal(lambda: migrate(path)) == f"journal {path}: expected a journal, found no file"
    assert not path.exists()
    path.touch()
    assert refusal(lambda: migrate(path)) == f"journal {path}: expected a journal, found an empty database"


def test_one_that_is_in_use_is_not_migrated(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        journal.open()
        assert "another lab is using it" in refusal(lambda: migrate(path))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("UPDATE dispatch_runs SET record = 'garbage'", "JSON is malformed: invalid character (byte 0)"),
        ("UPDATE dispatch_reports SET record = '{}'", "Object missing required field `title`"),
    ],
)
def test_one_that_cannot_be_read_is_left_as_it_is(tmp_path: Path, spoil: str, why: str) -> None:
    path = Path(shutil.copyfile(LAST, tmp_path / "journal.db"))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(spoil)
    before = path.read_bytes()
    assert refusal(lambda: migrate(path)) == f"journal {path}: cannot upgrade it ({why}){ADVICE}"
    assert path.read_bytes() == before


MIGRATES = "import sys; from pytest_dispatch.store.migrate import migrate; print(migrate(sys.argv[1]))"


SURE = 20  # writes of which a migration has more


@needs_shim
def test_killed_at_every_write_of_a_migration(tmp_path: Path) -> None:
    for step in count(1) if TORTURE else [*drawn(range(1, SURE + 1), 4), *drawn(range(SURE + 1, 4 * SURE), 2)]:
        path = Path(shutil.copyfile(LAST, tmp_path / f"{step}.db"))
        environ = {**preloaded(), **killed(path, step)}
        ran = subprocess.run([sys.executable, "-c", MIGRATES, path], env=environ, check=False, capture_output=True)
        assert len(runs_in(path)) == 3, step
        if not ran.returncode:
            assert step > SURE
            break


def test_a_report_is_told_apart_as_the_migration_does() -> None:
    case = Case(name="c", outcome=Outcome.FAILED, duration=1.0, message="m")
    ours = Report(title="t", labels=("l",), result=Outcome.PASSED, cases=(case,), tap="1..0", at=5.0, late=True)
    theirs = version_1_shapes.Report(
        title="t",
        labels=["l"],
        result="passed",
        cases=[version_1_shapes.Case(name="c", outcome="failed", duration=1.0, message="m")],
        tap="1..0",
    )
    assert version_2._digest(theirs) == report_digest(ours)
