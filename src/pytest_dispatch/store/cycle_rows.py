"""Rows of cycles and their rounds, and queries for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from pytest_dispatch.core.cycle_state import CycleState, Round, Wish
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.round_results import RoundChange
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import as_json, restored, stored
from pytest_dispatch.store.database import Database
from pytest_dispatch.store.inserts import Deletion, Expired
from pytest_dispatch.store.row_writing import Row
from pytest_dispatch.support.codec import decode

T = TypeVar("T")

JUNIT, OUTPUT = "junit", "output"  # names of a round's files


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCycles:
    """What the journal has of cycles: their states, and the rounds that ran when the lab ended."""

    states: tuple[CycleState, ...]
    under_way: tuple[Round, ...]


def cycle_row(changed: CycleState | Round) -> Row:
    """Return the row of a cycle's state, or of a round."""
    return _state_row(changed) if isinstance(changed, CycleState) else _round_row(changed)


def _state_row(state: CycleState) -> Row:
    return schema.cycles, {
        "name": state.cycle,
        "started": _optional(state.started),
        "hold": _optional(state.hold),
        "due": state.due,
        "now": _optional(state.now),
        "rounds": state.rounds,
    }


def _round_row(each: Round) -> Row:
    return schema.rounds, {
        "cycle": each.cycle,
        "number": each.number,
        "who": stored(each.who),
        "chosen": as_json(each.values),
        "began": each.began,
        "tries": each.tries,
        "stopped": stored(each.stopped),
        "missed": each.missed,
        "ended": each.ended,
        "outcome": None if each.outcome is None else str(each.outcome),
        "reason": stored(each.reason),
        "session": each.session,
        "counts": as_json(each.counts),
        "change": as_json(each.change),
    }


def file_row(each: Round, name: str, content: str, now: float) -> Row:
    """Return the row of a round's file."""
    of = {"cycle": each.cycle, "number": each.number, "name": name, "at": now}
    return schema.round_files, {**of, "content": stored(content)}


def _optional(value: object | None) -> str | None:
    return None if value is None else as_json(value)


class CycleReader:
    """Queries of a journal about cycles. Each method may raise a JournalError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def kept(self) -> KeptCycles:
        """Return what a lab needs to go on with the cycles of the one before."""
        running = sa.select(schema.rounds).where(schema.rounds.c.ended.is_(None))
        with self._database.errors("read"):
            return KeptCycles(
                states=tuple(map(_state_of, self._all(sa.select(schema.cycles)))),
                under_way=tuple(map(_round_of, self._all(running))),
            )

    def rounds(self, cycle: str, before: int | None, most: int) -> list[Round]:
        """Return the latest rounds of a cycle, the newest first; with `before`, those before that number."""
        own = schema.rounds.c
        query = sa.select(schema.rounds).where(own.cycle == cycle).order_by(own.number.desc()).limit(most)
        found = self._all(query if before is None else query.where(own.number < before))
        with self._database.errors("read"):
            return list(map(_round_of, found))

    def round(self, cycle: str, number: int) -> Round | None:
        """Return a round; None if there is none of that number."""
        own = schema.rounds.c
        found = self._all(sa.select(schema.rounds).where(own.cycle == cycle, own.number == number))
        with self._database.errors("read"):
            return _round_of(found[0]) if found else None

    def file(self, cycle: str, number: int, name: str) -> str | None:
        """Return a file of a round; None if there is none."""
        own = schema.round_files.c
        query = sa.select(own.content).where(own.cycle == cycle, own.number == number, own.name == name)
        found = self._all(query)
        return restored(found[0]["content"]) if found else None

    def count_ended(self, before: float) -> int:
        """Return how many rounds ended before a time."""
        own = schema.rounds.c
        [found] = self._all(sa.select(sa.func.count().label("count")).where(own.ended < before))
        return int(found["count"])

    def last_results(self, cycle: str, before: int) -> str | None:
        """Return the JUnit file of the last round before a number that has one; None if there is none."""
        own = schema.round_files.c
        query = (
            sa.select(own.content)
            .where(own.cycle == cycle, own.number < before, own.name == JUNIT)
            .order_by(own.number.desc())
            .limit(1)
        )
        found = self._all(query)
        return restored(found[0]["content"]) if found else None

    def _all(self, query: sa.Select[Any]) -> Sequence[Mapping[str, Any]]:
        with self._database.errors("read"), self._database.engine.connect() as db:
            return [dict(row) for row in db.execute(query).mappings()]


def old_rounds(before: float) -> list[Deletion]:
    """Return what deletes the rounds that ended before a time, with their files."""
    return [Expired(schema.rounds.c.ended, before), Expired(schema.round_files.c.at, before)]


def _state_of(row: Mapping[str, Any]) -> CycleState:
    return CycleState(
        cycle=row["name"],
        started=_wanted(row["started"], Wish),
        hold=_wanted(row["hold"], Hold),
        due=row["due"],
        now=_wanted(row["now"], Wish),
        rounds=row["rounds"],
    )


def _round_of(row: Mapping[str, Any]) -> Round:
    return Round(
        cycle=row["cycle"],
        number=row["number"],
        who=restored(row["who"]),
        values=decode(row["chosen"], dict[str, str]),
        began=row["began"],
        tries=row["tries"],
        stopped=restored(row["stopped"]),
        missed=row["missed"],
        ended=row["ended"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
        reason=restored(row["reason"]),
        session=row["session"],
        counts=decode(row["counts"], dict[str, int]),
        change=decode(row["change"], RoundChange),
    )


def _wanted(text: str | None, kind: type[T]) -> T | None:
    return None if text is None else decode(text, kind)
