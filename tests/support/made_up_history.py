"""A history of any size, made by the database itself: machines, workloads and people that come and go over a year."""

from __future__ import annotations

import os

import sqlalchemy as sa

from pytest_dispatch.store import schema

BEGAN = 1_700_000_000.0  # when the first run ended
YEAR = 365 * 86_400.0
RUNS = int(os.environ.get("DISPATCH_HISTORY", "1000000"))  # in the history that the benchmark makes

#: The same numbers in both databases: a draw of a run is from 0 to 9999, and another one for each thing that is drawn.
_DRAW = "(i * 48271 % 2147483647 * {seed} % 2147483647) % 10000"

_SEEDS = {"a": 69621, "b": 16807, "c": 39373, "d": 62089, "e": 40014, "m": 40692}

_SERIES = {
    "sqlite": "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {runs}) SELECT i FROM n)",
    "postgresql": "(SELECT generate_series(CAST(1 AS BIGINT), {runs}) AS i)",
}
#: A session's id as sessions have them: twelve digits, spread over all of them.
_ID = {
    "sqlite": "printf('%012x', {number})",
    "postgresql": "lpad(to_hex(CAST({number} AS BIGINT)), 12, '0')",
}
_NUMBER = "((i / 200 + 1) * 17326348234261 % 281474976710656)"
_FLAG = {"sqlite": ("1", "0"), "postgresql": ("true", "false")}

_SQL = """
INSERT INTO dispatch_history (id, run, session, kind, origin, name, digest, in_group, machine, who, labels, outcome,
    original, reason, ended, seconds, attempts, flaky, cancelled, firmware, words, overridden, override_reason,
    override_who, override_at, notes, noted)
SELECT
    {began}000000 + i * {step},
    {session} || '.' || (i % 200),
    's-' || (i / 200),
    CASE WHEN b < 9500 THEN 'boot' ELSE 'actions' END,
    'lab/firmware@v' || (i * 20 / {runs}),
    CASE WHEN i < {runs} / 10 THEN 'old-' ELSE 'test-' END || (c % 500) || '.efi',
    'sha256:' || (i * 20 / {runs}) || '-' || (c % 500),
    'group-' || (d % 8),
    CASE WHEN i < {runs} / 20 THEN 'retired-' || (m % 4) ELSE 'm-' || (m % 200) END,
    'person-' || (b % 40),
    CASE WHEN d % 4 = 0 THEN '["nightly","arch=arm64"]' ELSE '["arch=x86_64"]' END,
    outcome,
    outcome,
    CASE WHEN outcome = 'failed' THEN 'report: ' || CASE WHEN e % 100 = 0 THEN 'kernel panic in driver ' || (i % 97)
        WHEN e % 4 = 0 THEN 'out of memory after a while' ELSE 'expected 0, found ' || (i % 7) END
        WHEN outcome = 'error' THEN 'no machine came within 5m' ELSE '' END,
    {began} + i * {step} / 1000000.0,
    10 + e % 300,
    CASE WHEN flaky = 1 THEN 2 ELSE 1 END,
    CASE WHEN flaky = 1 THEN {yes} ELSE {no} END,
    {no},
    CASE WHEN i % 3 = 0 THEN '1.2' ELSE '' END,
    'boot report' || CASE WHEN i = {runs} / 50 THEN ' a needle' ELSE '' END,
    CASE WHEN i % 5000 = 7 THEN {yes} ELSE {no} END,
    '', '', NULL, 0, ''
FROM (
    SELECT i, a, b, c, d, e, m,
        CASE WHEN a < 9200 THEN 'passed' WHEN a < 9800 THEN 'failed' WHEN a < 9900 THEN 'error' ELSE 'skipped' END
            AS outcome,
        CASE WHEN a < 200 THEN 1 ELSE 0 END AS flaky
    FROM (SELECT i, {draws} FROM {series} AS counted) AS drawn
) AS told
"""


#: Statistics of series by machine, and of all machines together, as a lab would have counted them meanwhile.
_COUNTED = """
INSERT INTO dispatch_series (kind, origin, name, machine, outcome, flaky, bucket, count)
SELECT kind, origin, name, on_machine, outcome, flaky, bucket, count(*) FROM (
    SELECT kind, origin, name, machine AS on_machine, outcome, flaky, CAST(seconds / 10 AS INTEGER) AS bucket
        FROM dispatch_history
    UNION ALL
    SELECT kind, origin, name, '', outcome, flaky, CAST(seconds / 10 AS INTEGER) FROM dispatch_history
) AS ended
GROUP BY kind, origin, name, on_machine, outcome, flaky, bucket
"""

#: What runs went through since a time, so that charts have waits and states.
_STEPS = """
INSERT INTO dispatch_moments (run, attempt, number, state, phase, at)
SELECT run, 1, number, state, phase, ended - before FROM dispatch_history CROSS JOIN (
    SELECT 1 AS number, 'queued' AS state, 'queued' AS phase, 140 AS before
    UNION ALL SELECT 2, 'assigned', 'starting', 40 UNION ALL SELECT 3, 'downloaded', 'starting', 35
    UNION ALL SELECT 4, 'booted', 'running', 30 UNION ALL SELECT 5, 'over', 'over', 0
) AS steps WHERE id >= {since}
"""


def make_history(engine: sa.Engine, runs: int, began: float = BEGAN) -> None:
    """Fill the tables of ended runs and series of an opened journal, and tell the database of it as it would know.

    Args:
        engine: Of the journal.
        runs: Number of runs.
        began: When the first run ended; the last one did a year later.
    """
    dialect = engine.dialect.name
    yes, no = _FLAG[dialect]
    draws = ", ".join(f"{_DRAW.format(seed=seed)} AS {name}" for name, seed in _SEEDS.items())
    sql = _SQL.format(
        began=int(began),
        step=int(YEAR * 1e6) // runs,
        runs=runs,
        session=_ID[dialect].format(number=_NUMBER),
        draws=draws,
        series=_SERIES[dialect].format(runs=runs),
        yes=yes,
        no=no,
    )
    with engine.begin() as db:
        if dialect == "sqlite":
            triggers = db.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").all()
            for name, _ in triggers:
                db.exec_driver_sql(f"DROP TRIGGER {name}")
        db.exec_driver_sql(sql if dialect == "sqlite" else sql.replace("%", "%%"))  # psycopg takes % for a parameter
        db.exec_driver_sql(_COUNTED)
        if dialect == "sqlite":
            index = schema.WORDS_INDEX
            db.exec_driver_sql(f"INSERT INTO {index}({index}) VALUES ('rebuild')")
            for _, made in triggers:
                db.exec_driver_sql(made)
    if dialect == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            for table in (schema.history, schema.series):
                db.exec_driver_sql(f"VACUUM ANALYZE {table.name}")


def make_steps(engine: sa.Engine, since: float) -> None:
    """Have the runs of a history that ended since a time go through the states of the kind `boot`."""
    with engine.begin() as db:
        db.exec_driver_sql(_STEPS.format(since=int(since * 1e6)))
