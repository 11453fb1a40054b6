"""The life of a boot attempt, walked pair by pair against a grid that was written down by itself."""

from __future__ import annotations

import itertools

import pytest

from pytest_dispatch.core.lifecycle import JUDGED, Ending
from pytest_dispatch.core.model import Outcome, Phase
from pytest_dispatch.workloads.boot.lifecycle import LIFECYCLES, Event, Expect, State

USUAL = LIFECYCLES[Expect.REPORT]

# A column for each event in the order of the first line, a row for each state; a dot where the event means nothing.
# U unassigned, A assigned, D downloading, L downloaded, B booting, R reported, F finished, X failed, C cancelled
GRID = """
   assign ask send break sent boot report refuse return complete timeout silence fault cancel
U  A      .   .    .     .    .    .      .      .      .        X       .       X     C
A  .      A   D    .     .    .    .      .      .      .        X       X       X     C
D  .      D   D    D     L    B    .      .      .      .        X       X       X     C
L  .      L   L    L     L    B    .      .      X      F        X       .       X     C
B  .      .   .    .     .    B    R      B      X      F        X       .       X     C
R  .      .   .    .     .    R    R      R      F      .        F       .       F     F
F  .      .   .    .     .    .    F      F      .      .        .       .       .     .
X  .      .   .    .     .    .    X      X      .      .        .       .       .     .
C  .      .   .    .     .    .    C      C      .      .        .       .       .     .
"""
LETTERS = dict(zip("UADLBRFXC", State, strict=True))


def grid() -> dict[tuple[State, Event], State | None]:
    head, *rows = GRID.strip("\n").splitlines()
    events = [Event(name) for name in head.split()]
    cells = [(LETTERS[row[0]], row[1:].split()) for row in rows]
    return {
        (state, event): LETTERS.get(pending)
        for state, pending_issues in cells
        for event, pending in zip(events, pending_issues, strict=True)
    }


def test_the_grid_has_every_pair() -> None:
    assert set(grid()) == set(itertools.product(State, Event))


@pytest.mark.parametrize(("pair", "expected"), grid().items(), ids=lambda value: "-".join(value) if value else "none")
def test_pair(pair: tuple[State, Event], expected: State | None) -> None:
    assert [each.follow(*pair) for each in LIFECYCLES.values()] == [expected] * len(Expect)


def test_how_far_an_attempt_is() -> None:
    phases = [Phase.QUEUED, *[Phase.STARTING] * 3, Phase.RUNNING, Phase.SETTLING, *[Phase.OVER] * 3]
    assert {state: USUAL.phase(state) for state in State} == dict(zip(State, phases, strict=True))


def test_what_kept_its_promise_is_complete_at_once() -> None:
    then = {
        expect: {state: rule.then for state, rule in each.states.items() if rule.then}
        for expect, each in LIFECYCLES.items()
    }
    assert then == {Expect.REPORT: {}, Expect.BOOT: {State.BOOTING: Event.COMPLETE}, Expect.RETURN: {}}


# Whose fault it is (E the lab's, F the workload's), and what a person reads.
TEXTS = """
unassigned timeout E | no machine took it: timed out after 30m in the queue; no machine started or finished anything
assigned timeout E | bench-1 was given it and did not begin to download it within 30m
downloading timeout E | bench-1 began to download it and took nothing more for 30m
downloaded timeout E | no boot beacon 15m after the last byte was sent to bench-1; \
a workload without a beacon needs --dispatch-expect return
booting timeout F | no report 1h after it booted on bench-1
assigned silence E | bench-1 asked for it and went silent, so the lab took it back
downloading silence E | bench-1 went silent while downloading it, so the lab took it back
downloaded return E | bench-1 never booted it: it downloaded it 3 times and came back each time without a boot beacon; \
a workload without a beacon needs --dispatch-expect return
booting return F | bench-1 came back without reporting
unassigned fault E | the fan stopped
assigned fault E | bench-1: the fan stopped before the download
downloading fault E | bench-1: the fan stopped during the download
downloaded fault E | bench-1: the fan stopped before the boot beacon
booting fault F | bench-1: the fan stopped after it booted
unassigned cancel E | cancelled while unassigned
assigned cancel E | cancelled while assigned
downloading cancel E | cancelled while downloading
downloaded cancel E | cancelled while downloaded
booting cancel E | cancelled while booting
"""
RETURN_TEXTS = """
downloaded timeout E | bench-1 did not come back within the 15m for booting it and the 1h for running it
booting timeout F | bench-1 did not come back within 1h after it booted
"""
WORDS = {
    "machine": "bench-1",
    "assign": "30m",
    "boot": "15m",
    "report": "1h",
    "sent": 3,
    "detail": "the fan stopped",
    "by": "",
}


def parsed(texts: str) -> dict[tuple[State, Event], tuple[Outcome, str]]:
    found = {}
    for line in texts.strip().splitlines():
        pair, _, text = line.partition(" | ")
        state, event, fault = pair.split()
        outcome = {"E": Outcome.ERROR, "F": Outcome.FAILED}[fault]
        found[State(state), Event(event)] = (outcome, text)
    return found


def endings(expect: Expect) -> dict[tuple[State, Event], Ending]:
    states = LIFECYCLES[expect].states.items()
    return {(State(state), Event(event)): ending for state, rule in states for event, ending in rule.endings.items()}


@pytest.mark.parametrize("pair", parsed(TEXTS), ids="-".join)
@pytest.mark.parametrize("expect", Expect)
def test_what_an_ending_says(pair: tuple[State, Event], expect: Expect) -> None:
    own = parsed(RETURN_TEXTS) if expect is Expect.RETURN else {}
    ending = endings(expect)[pair]
    assert (ending.outcome, ending.text.format(state=pair[0].value, **WORDS)) == own.get(pair, parsed(TEXTS)[pair])


@pytest.mark.parametrize("expect", Expect)
def test_there_is_a_text_for_every_way_to_fail_and_reports_decide_the_others(expect: Expect) -> None:
    rows = [(State(state), rule.on) for state, rule in LIFECYCLES[expect].states.items()]
    ways = {(state, Event(event)): to for state, on in rows for event, to in on.items() if to != state}
    failing = {pair for pair, to in ways.items() if to in (State.FAILED, State.CANCELLED)}
    finishing = {pair for pair, to in ways.items() if to == State.FINISHED}
    assert failing == set(parsed(TEXTS))
    assert {pair for pair, ending in endings(expect).items() if ending is JUDGED} == finishing


def test_the_diagram_has_every_change_of_state() -> None:
    lines = USUAL.diagram().splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> unassigned"]
    drawn = set()
    for line in lines:
        arrow, _, events = line.strip().partition(": ")
        states = arrow.split(" --> ")
        drawn |= {(states[0], event, states[1]) for event in events.split(", ") if event}
    moves = {(s, str(e), t) for s, rule in USUAL.states.items() for e, t in rule.on.items() if s != t}
    assert drawn == moves
    assert lines[-2:] == ["    failed --> [*]", "    cancelled --> [*]"]
