"""The language in which people search history: `outcome:failed machine:rpi-02 since:7d "out of memory"`.

A search is a row of terms, and a run is found if it fulfils all of them. `field:value` compares a field of the run,
with several values by comma, of which one must fit; a `*` at the end stands for any rest. Other terms are words that
the run's texts must have; words in quotes must stand side by side. A `-` before a term turns it around.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Outcome

LONGEST = 1000  # characters of a search
MOST = 32  # terms of a search, and values of a term
EARLIEST, LATEST = 0.0, 4e9  # times that a search may name, in seconds since 1970

_HEAD = re.compile(r"([A-Za-z_]+):")
_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"(\*?)|([^\s",]+)')
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"(\*?)|([^\s"]+)')
_AGO = re.compile(r"([0-9]{1,6})([smhdw])")
_SHORT_RUN = re.compile(r"([0-9a-f]{1,11})\.([0-9]{1,18})")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}

#: Between the words of a text: blanks, and the punctuation of ASCII.
SEPARATORS = re.compile(r"[\s\x00-\x1f!-/:-@\[-`{-~]+")


class SearchError(ConfigError):
    """A search that cannot be understood."""


class Field(StrEnum):
    """What of a run a term compares."""

    OUTCOME = "outcome"  # the one that counts
    ORIGINAL = "original"  # the one that it ended with
    MACHINE = "machine"
    GROUP = "group"
    WORKLOAD = "workload"
    SOURCE = "source"
    KIND = "kind"
    LABEL = "label"
    SESSION = "session"
    WHO = "who"
    RUN = "run"
    FLAKY = "flaky"
    CANCELLED = "cancelled"
    OVERRIDDEN = "overridden"
    NOTED = "noted"


SINCE, BEFORE = "since", "before"

#: Fields whose values may end with `*`.
PREFIXED = frozenset({Field.WORKLOAD, Field.SOURCE, Field.MACHINE})
#: Fields that are true or not.
FLAGS = frozenset({Field.FLAKY, Field.CANCELLED, Field.OVERRIDDEN, Field.NOTED})
_OUTCOMES = frozenset({Field.OUTCOME, Field.ORIGINAL})


@dataclass(frozen=True, slots=True)
class Value:
    """A value to compare with.

    Attributes:
        text: The value, its beginning, or the short form of a run's id.
        prefix: Whether it is a beginning.
        short: Whether it is such a short form: the beginning of the session's id, and the run's number.
    """

    text: str
    prefix: bool = False
    short: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """A term that compares a field: one of the values must fit, or with `negated` none of them."""

    field: Field
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that stand side by side in a text of a run.

    Attributes:
        words: The words, in lower case.
        prefix: Whether the last one is a beginning.
        negated: Whether no text may have them.
    """

    words: tuple[str, ...]
    prefix: bool = False
    negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What runs are searched for.

    Attributes:
        since: They ended at this time or later; None for any.
        before: They ended before this time; None for any.
        groups: They are in one of these groups; None for any.
    """

    conditions: tuple[Condition, ...] = ()
    phrases: tuple[Phrase, ...] = ()
    since: float | None = None
    before: float | None = None
    groups: frozenset[str] | None = None


@dataclass(slots=True)
class _Reading:
    """A search that is being read."""

    text: str
    now: float
    conditions: list[Condition] = field(default_factory=list)
    phrases: list[Phrase] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)

    def term(self, start: int) -> int:
        """Read the term that begins here, and return where it ends."""
        negated = self.text[start] == "-"
        head = _HEAD.match(self.text, start + negated)
        if head is None:
            return self._phrase(start, negated=negated)
        name, place = head[1], head.end()
        if name not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise _error(start, f"no search by {name!r}: expected one of {known}; put words with a colon into quotes")
        values = list[tuple[int, Value]]()
        while True:
            found = _VALUE.match(self.text, place)
            if found is None:
                raise _error(place, f"expected a value after {name}:, got {_came(self.text, place)}")
            values.append((place, _value(found)))
            place = found.end()
            if place == len(self.text) or self.text[place] != ",":
                break
            place += 1
        self._add(start, name, values, negated=negated)
        return place

    def _add(self, start: int, name: str, values: list[tuple[int, Value]], *, negated: bool) -> None:
        if len(values) > MOST:
            raise _error(start, f"{name}: expected at most {MOST} values, got {len(values)}")
        if name in (SINCE, BEFORE):
            if negated or len(values) > 1 or name in self.times:
                raise _error(start, f"expected {name}: once, with one time, and without - before it")
            self.times[name] = _time(*values[0], name, self.now)
            return
        what = Field(name)
        read = tuple(_checked(what, place, value) for place, value in values)
        self.conditions.append(Condition(what, read, negated))

    def _phrase(self, start: int, *, negated: bool) -> int:
        found = _WORD.match(self.text, start + negated)
        if found is None:
            came = _came(self.text, start + negated)
            raise _error(start + negated, f"expected a word or field:value, got {came}")
        value = _value(found)
        words = tuple(words_of(value.text))
        if not words:
            raise _error(start, f"expected a letter or a digit, got {found[0]}")
        self.phrases.append(Phrase(words, value.prefix, negated))
        return found.end()


def read_search(text: str, now: float) -> Search:
    """Read a search.

    Args:
        text: The search; an empty one finds all runs.
        now: The time, in seconds since 1970, from which `since:7d` counts back.

    Raises:
        SearchError: It cannot be understood; the message says where.
    """
    if len(text) > LONGEST:
        raise SearchError(f"search: expected at most {LONGEST} characters, got {len(text)}")
    reading, place = _Reading(text, now), 0
    while (place := _after_blanks(text, place)) < len(text):
        place = reading.term(place)
        if place < len(text) and not text[place].isspace():
            raise _error(place, f"expected a blank between two terms, got {_came(text, place)}")
    terms = len(reading.conditions) + len(reading.phrases)
    if terms > MOST:
        raise SearchError(f"search: expected at most {MOST} terms, got {terms}")
    return Search(
        conditions=tuple(reading.conditions),
        phrases=tuple(reading.phrases),
        since=reading.times.get(SINCE),
        before=reading.times.get(BEFORE),
    )


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return [word for word in SEPARATORS.split(text.lower()) if word]


def within(search: Search, groups: frozenset[str] | None) -> Search:
    """Return the search confined to groups; None confines it to none."""
    return replace(search, groups=groups)


def _after_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _value(found: re.Match[str]) -> Value:
    """Return what a match of a value or a word has: quoted with an optional `*` behind it, or bare."""
    if found[3] is None:
        return Value(re.sub(r"\\(.)", r"\1", found[1]), found[2] == "*")
    return Value(found[3].removesuffix("*"), found[3].endswith("*"))


def _checked(what: Field, place: int, value: Value) -> Value:
    """Return a value that fits its field.

    Raises:
        SearchError: It does not.
    """
    if value.prefix and what not in PREFIXED:
        names = ", ".join(sorted(PREFIXED))
        raise _error(place, f"{what}: expected no *, which only {names} and words may end with, got {value.text}*")
    accepted = _WORDS.get(what)
    if accepted is not None and value.text not in accepted:
        meant = what in _OUTCOMES and value.text == Field.CANCELLED
        hint = "; cancelled:yes finds runs that somebody cancelled" if meant else ""
        raise _error(place, f"{what}: expected {_either(accepted)}, got {value.text!r}{hint}")
    return replace(value, short=True) if what is Field.RUN and is_short_run(value.text) else value


def is_short_run(text: str) -> bool:
    """Return whether a text has the short form of a run's id."""
    return _SHORT_RUN.fullmatch(text) is not None


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _time(place: int, value: Value, name: str, now: float) -> float:
    """Return the time that a value names, in seconds since 1970.

    Raises:
        SearchError: It names none.
    """
    ago = _AGO.fullmatch(value.text)
    if ago is not None:
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        at = datetime.fromisoformat(value.text.upper())
        seconds = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        seconds = -1.0
    if value.prefix or not EARLIEST <= seconds <= LATEST:
        came = f"{value.text}*" if value.prefix else value.text
        raise _error(place, f"{name}: expected a time such as 7d, 12h, 2026-11-01 or 2026-11-01T12:30, got {came!r}")
    return seconds


def _error(place: int, what: str) -> SearchError:
    return SearchError(f"search, character {place + 1}: {what}")


def _came(text: str, place: int) -> str:
    return "nothing" if place >= len(text) else repr(text[place])


_WORDS: Mapping[Field, tuple[str, ...]] = {
    **dict.fromkeys(sorted(_OUTCOMES), tuple(map(str, Outcome))),
    **dict.fromkeys(sorted(FLAGS), ("yes", "no")),
}
_FIELDS = (*map(str, Field), SINCE, BEFORE)
