"""Searches of history as SQL: read from an index in the order of history wherever there is one, newest first.

Neither database knows how the runs that fit are spread over time, and both are wrong by far when they guess. So a page
is read in one of three ways, each in words that leave no other:

- by a field: a value and an outcome are the beginning of an index, which then has the order; several values are as many
  reads of one page, merged. SQLite finds no other index, as the other columns have a sign; PostgreSQL is asked for the
  order of that index, which no other has, between two of its rows;
- by words, in SQLite: its index of words is read in the order of history, and has the fields too;
- by walking: the latest runs are looked at one after the other. Those fill most pages. If they do not, few of all runs
  fit, and they are found by any index and sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import sqlalchemy as sa

from pytest_dispatch.core.history_search import FLAGS, Condition, Field, Phrase, Search, Value, words_of
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import as_json, stored

MOST_READS = 40  # reads of an index that are merged for one page
WALKED = 10_000  # latest runs that are looked at one after the other

Clause = sa.ColumnElement[bool]
Query = sa.Select[Any]

_own = schema.history.c
_COLUMNS: Mapping[Field, sa.Column[Any]] = {
    Field.OUTCOME: _own.outcome,
    Field.ORIGINAL: _own.original,
    Field.MACHINE: _own.machine,
    Field.GROUP: _own.in_group,
    Field.WORKLOAD: _own.name,
    Field.SOURCE: _own.origin,
    Field.KIND: _own.kind,
    Field.LABEL: _own.labels,
    Field.SESSION: _own.session,
    Field.WHO: _own.who,
    Field.RUN: _own.run,
    Field.FLAKY: _own.flaky,
    Field.CANCELLED: _own.cancelled,
    Field.OVERRIDDEN: _own.overridden,
    Field.NOTED: _own.notes,
}

#: Fields with an index, by how few runs one value mostly has; and whether the index has the outcome before the order.
_DRIVING: Mapping[Field, bool] = {
    Field.RUN: False,
    Field.SESSION: False,
    Field.WORKLOAD: True,
    Field.MACHINE: True,
    Field.WHO: True,
    Field.GROUP: True,
    Field.SOURCE: True,
    Field.KIND: True,
}
#: Flags with an index of the few runs for which they are true.
_RARE: Mapping[Field, Clause] = {
    Field.OVERRIDDEN: _own.overridden,
    Field.NOTED: _own.notes > sa.literal_column("0"),
    Field.FLAKY: _own.flaky,
    Field.CANCELLED: _own.cancelled,
}

#: Fields that SQLite's index of words has; it is asked for them too, and what it finds is compared exactly.
_IN_WORDS = (
    Field.OUTCOME,
    Field.MACHINE,
    Field.GROUP,
    Field.WORKLOAD,
    Field.LABEL,
)

_SIMPLE: sa.ColumnElement[str] = sa.literal_column("'simple'")  # PostgreSQL's words as they are, in any language
_NO_END = 2**63 - 1  # a place after all others
_LAST = "\U0010ffff"  # after every character that a text may go on with
_words = sa.table(schema.WORDS_INDEX, sa.column("rowid", sa.Integer), sa.column(schema.WORDS_INDEX, sa.Text))


@dataclass(frozen=True, slots=True)
class Page:
    """Which page of a search is read.

    Attributes:
        before: Place before which its runs are; None for the newest ones.
        most: The most runs that it has.
    """

    before: int | None
    most: int


def without_index(column: sa.Column[Any], dialect: str) -> sa.ColumnElement[Any]:
    """Return a column for which SQLite looks into no index (https://www.sqlite.org/optoverview.html, 4)."""
    if dialect != "sqlite":
        return column
    return sa.literal_column(f"+{column.table.name}.{column.name}", column.type)


def page_queries(search: Search, page: Page, dialect: str) -> list[Query]:
    """Return the queries for a page: the first one that fills it has it, else the last one.

    Args:
        search: What is searched for.
        page: Which page.
        dialect: The kind of database: `sqlite` or `postgresql`.
    """
    terms = _Terms(search, dialect)
    if dialect == "sqlite" and (match := terms.match()):
        return [_by_words(match, terms, page)]
    if any(_is_short(each) for each in terms.conditions):
        return [_sorted(terms, page)]
    driven = None if _has_words(terms) else terms.driven()
    if driven is not None:
        return [_merged([_read(each, terms, page) for each in driven], page)]
    if not terms.others(()):
        return [_newest(terms, [], page)]
    first = _walked_from(page)
    return [_newest(terms, [_own.id >= first, *terms.others((), first)], page), _sorted(terms, page)]


@dataclass(frozen=True, slots=True)
class _Read:
    """A read of an index.

    Attributes:
        begins: The columns with which the index begins, before the place, and their values.
        others: Further conditions.
    """

    begins: tuple[tuple[sa.Column[Any], str], ...]
    others: Sequence[Clause]


class _Terms:
    """The terms of a search as conditions of SQL.

    Args:
        search: The search.
        dialect: The kind of database.
    """

    def __init__(self, search: Search, dialect: str) -> None:
        self.search = search
        self.dialect = dialect
        scope = () if search.groups is None else (_one_of(Field.GROUP, sorted(search.groups)),)
        self.conditions = (*search.conditions, *scope)

    def ends(self, page: Page) -> tuple[int, int]:
        """Return the first and the last place that runs may have."""
        ends = [None if self.search.before is None else int(self.search.before * 1e6), page.before]
        first = 0 if self.search.since is None else int(self.search.since * 1e6)
        return first, min(end - 1 for end in (*ends, _NO_END) if end is not None)

    def bounds(self, column: sa.ColumnElement[int], page: Page) -> list[Clause]:
        """Return the bounds of the places of the runs."""
        ends = [None if self.search.before is None else int(self.search.before * 1e6), page.before]
        found: list[Clause] = [column < end for end in ends if end is not None]
        return found if self.search.since is None else [*found, column >= int(self.search.since * 1e6)]

    def driven(self) -> list[_Read] | None:
        """Return the reads of an index which has the order; None if none has."""
        for field, is_true in _RARE.items():
            wanted = Condition(field, (Value("yes"),))
            if wanted in self.conditions:
                return [_Read((), [is_true, *self.others((wanted,))])] if self.dialect == "sqlite" else None
        outcomes = self._outcomes()
        for field, with_outcome in _DRIVING.items():
            mine = next((c for c in self.conditions if c.field is field and _is_exact(c)), None)
            if mine is not None:
                between = outcomes if with_outcome else [""]
                reads = [*product(_own_values(mine), between)]
                if len(reads) <= MOST_READS:
                    return [self._read(mine, *each) for each in reads]
        if any(each.field is Field.OUTCOME for each in self.conditions):
            return [_Read(((_own.outcome, outcome),), self.others(())) for outcome in outcomes]
        return None

    def _read(self, driving: Condition, value: str, outcome: str) -> _Read:
        between = ((_own.outcome, outcome),) if outcome else ()
        return _Read(((_COLUMNS[driving.field], value), *between), self.others((driving,)))

    def _outcomes(self) -> Sequence[str]:
        """Return the outcomes that runs may have."""
        found = set(map(str, Outcome))
        for each in self.conditions:
            if each.field is Field.OUTCOME:
                named = {value.text for value in each.values}
                found = found - named if each.negated else found & named
        return sorted(found)

    def others(self, left_out: Sequence[Condition], first: sa.ColumnElement[int] | None = None) -> list[Clause]:
        """Return all conditions but these, so that SQLite uses no index for them.

        Args:
            left_out: What is asked for otherwise.
            first: The first place that runs may have; None if it is not known.
        """
        found = [self._clause(each) for each in self.conditions if each not in left_out]
        if self.dialect != "sqlite":
            return [*found, *map(self._document_has, self.search.phrases)]
        # its index of words has the other words, and these too if there are any
        negated = [] if self.match() else [phrase for phrase in self.search.phrases if phrase.negated]
        return [*found, *(_without(phrase, first) for phrase in negated)]

    def _clause(self, condition: Condition) -> Clause:
        column = self.column(condition.field)
        fits = sa.or_(sa.false(), *(_fits(condition.field, column, value) for value in condition.values))
        if condition.field is Field.LABEL and self.dialect == "postgresql" and not condition.negated:
            asked = [self._document(Phrase(tuple(words_of(value.text)))) for value in condition.values]
            fits = sa.and_(fits, sa.or_(sa.false(), *asked))
        return sa.not_(fits) if condition.negated else fits

    def column(self, field: Field) -> sa.ColumnElement[Any]:
        """Return a column for which SQLite looks into no index."""
        return without_index(_COLUMNS[field], self.dialect)

    def _document_has(self, phrase: Phrase) -> Clause:
        """Return the condition that a run's texts have these words, or do not."""
        has = self._document(phrase)
        return sa.not_(has) if phrase.negated else has

    @staticmethod
    def _document(phrase: Phrase) -> Clause:
        """Return the condition in PostgreSQL (https://www.postgresql.org/docs/current/textsearch-controls.html)."""
        if not phrase.words:
            return sa.true()
        words = [f"'{word}'" for word in phrase.words]
        asked = " <-> ".join([*words[:-1], words[-1] + ":*" * phrase.prefix])
        document: sa.ColumnElement[str] = sa.literal_column(f"{schema.history.name}.{schema.DOCUMENT}")
        return document.op("@@", is_comparison=True)(sa.func.to_tsquery(_SIMPLE, asked))

    def match(self) -> str:
        """Return what SQLite's index of words is asked for; empty if the search has no words."""
        asked = [_in_texts(phrase) for phrase in self.search.phrases if not phrase.negated]
        negated = [phrase for phrase in self.search.phrases if phrase.negated]
        labels = [c for c in self.conditions if c.field is Field.LABEL and not c.negated]
        if not asked and not any(map(_in_field, labels)):
            return ""
        fields = [c for c in self.conditions if c.field in _IN_WORDS and _is_exact(c)]
        found = " AND ".join([*asked, *filter(None, map(_in_field, fields))])
        return " NOT ".join([f"({found})", *(f"({_in_texts(phrase)})" for phrase in negated)])


def _one_of(field: Field, values: Sequence[str]) -> Condition:
    return Condition(field, tuple(map(Value, values)))


def _is_exact(condition: Condition) -> bool:
    return not condition.negated and not any(value.prefix or value.short for value in condition.values)


def _is_short(condition: Condition) -> bool:
    """Return whether a condition is for runs of which one is named by the short form of its id: few fit."""
    return not condition.negated and any(value.short for value in condition.values)


def _own_values(condition: Condition) -> list[str]:
    return [stored(text) for text in dict.fromkeys(value.text for value in condition.values)]


def _fits(field: Field, column: sa.ColumnElement[Any], value: Value) -> Clause:
    """Return the condition that a column has a value."""
    text = stored(value.text)
    if field is Field.NOTED:
        return column > 0 if text == "yes" else column == 0
    if value.short:
        session, _, number = text.partition(".")
        after = session[:-1] + chr(ord(session[-1]) + 1)  # in every collation: no character of an id is between
        return sa.and_(column >= session, column < after, column.endswith(f".{int(number)}", autoescape=True))
    if field in FLAGS:
        return column.is_(text == "yes")
    if field is Field.LABEL:
        return column.contains(as_json(text), autoescape=True)
    return sa.and_(column >= text, column < text + _LAST) if value.prefix else column == text


# SQLite's index of words: https://www.sqlite.org/fts5.html, 3


def _in_texts(phrase: Phrase) -> str:
    return f"{{{' '.join(schema.SEARCHED)}}} : {_string(phrase.words)}{' *' * phrase.prefix}"


def _in_field(condition: Condition) -> str:
    """Return what the index is asked for a field; empty if it does not know one of its values."""
    values = [words_of(value.text) for value in condition.values]
    return f"{_COLUMNS[condition.field].name} : ({' OR '.join(map(_string, values))})" if all(values) else ""


def _string(words: Sequence[str]) -> str:
    return f'"{" ".join(words)}"'


def _matches(asked: str) -> Clause:
    return _words.c[schema.WORDS_INDEX].op("MATCH", is_comparison=True)(asked)


def _without(phrase: Phrase, first: sa.ColumnElement[int] | None) -> Clause:
    """Return the condition that a run is none of those whose texts have these words, which SQLite lists once."""
    has = sa.select(_words.c.rowid).where(_matches(_in_texts(phrase)))
    return _own.id.not_in(has if first is None else has.where(_words.c.rowid >= first))


def _by_words(match: str, terms: _Terms, page: Page) -> Query:
    """Return the query that reads SQLite's index of words in the order of history, and then each run."""
    place = sa.literal_column(f"+{schema.WORDS_INDEX}.rowid", sa.Integer)
    both = _words.join(schema.history, _own.id == place)
    where = (_matches(match), *terms.bounds(_words.c.rowid, page), *terms.others(()))
    return sa.select(schema.history).select_from(both).where(*where).order_by(_words.c.rowid.desc()).limit(page.most)


# Pages


def _newest(terms: _Terms, where: Sequence[Clause], page: Page) -> Query:
    found = sa.select(schema.history).where(*terms.bounds(_own.id, page), *where)
    return found.order_by(_own.id.desc()).limit(page.most)


def _read(read: _Read, terms: _Terms, page: Page) -> Query:
    """Return the query for a page of one read."""
    if terms.dialect == "sqlite" or not read.begins or read.begins[0][0] is _own.run:
        return _newest(terms, [*(column == value for column, value in read.begins), *read.others], page)
    columns, values = zip(*read.begins, strict=True)
    index, (first, last) = sa.tuple_(*columns, _own.id), terms.ends(page)
    between = (index >= sa.tuple_(*values, first), index <= sa.tuple_(*values, last))
    order = [column.desc() for column in (*columns, _own.id)]
    return sa.select(schema.history).where(*between, *read.others).order_by(*order).limit(page.most)


def _merged(reads: Sequence[Query], page: Page) -> Query:
    """Return the newest runs of several reads, none of which has a run that another one has."""
    if not reads:
        return sa.select(schema.history).where(sa.false())
    if len(reads) == 1:
        return reads[0]
    parts: Iterator[Query] = (sa.select(each.subquery()) for each in reads)
    every = sa.union_all(*parts).subquery()
    return sa.select(every).order_by(every.c.id.desc()).limit(page.most)


def _walked_from(page: Page) -> sa.ColumnElement[int]:
    """Return the place of the last of the latest runs, which are looked at one after the other."""
    before = () if page.before is None else (_own.id < page.before,)
    latest = sa.select(_own.id).where(*before).order_by(_own.id.desc()).offset(WALKED).limit(1)
    return sa.func.coalesce(latest.scalar_subquery(), 0)


def _sorted(terms: _Terms, page: Page) -> Query:
    """Return the query for few of all runs: by any index, and then sorted."""
    # SQLite would otherwise walk from the bound on
    place = sa.literal_column(f"+{schema.history.name}.id", sa.Integer) if terms.dialect == "sqlite" else _own.id
    bounds = terms.bounds(place, page)
    beginnings = [c for c in terms.conditions if not c.negated and any(v.prefix or v.short for v in c.values)]
    beginning = max(beginnings, key=_is_short, default=None)
    rare = [is_true for field, is_true in _RARE.items() if Condition(field, (Value("yes"),)) in terms.conditions]
    if beginning is None and not rare and not _has_words(terms):
        return _newest(terms, terms.others(()), page)
    where = [*bounds, *rare, *terms.others(() if beginning is None else (beginning,))]
    if beginning is not None:
        column = _COLUMNS[beginning.field]
        where.append(sa.or_(*(_fits(beginning.field, column, value) for value in beginning.values)))
    # the places are read and sorted from the index alone, if nothing else is asked
    places: sa.FromClause = sa.select(_own.id).where(*where).order_by(_own.id.desc()).limit(page.most).subquery()
    if terms.dialect == "postgresql":  # else it walks in the order of history
        every = sa.select(_own.id).where(*where).offset(0).subquery()
        places = sa.select(every.c.id).order_by(every.c.id.desc()).limit(page.most).subquery()
    return sa.select(schema.history).where(_own.id.in_(sa.select(places.c.id))).order_by(_own.id.desc())


def _has_words(terms: _Terms) -> bool:
    labels = any(c.field is Field.LABEL and not c.negated for c in terms.conditions)
    return labels or any(not phrase.negated for phrase in terms.search.phrases)
