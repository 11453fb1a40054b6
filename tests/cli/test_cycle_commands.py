"""`dispatch cycle`, as an operator types it: a whole service, whose rounds are real ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from operators import LAB, Operator, as_operator, staffed_lab
from shared_labs import SharedLab
from waiting import PATIENCE

from pytest_dispatch.cli.cycles import added

LEFT_OUT = "[the first 70 bytes are left out]\n"
CYCLES = """\
cycles:
  - name: smoke
    description: Smoke tests of the left bench
    folder: .
    arguments: [--dispatch-dir=w, -k, "{what}", -p, "no:cacheprovider"]
    every: 6h
    group: left
    parameters: {what: {choices: [smoke, memory, hang]}}
  - name: empty
    folder: .
    arguments: [--dispatch-dir=w, -k, nothing, -p, "no:cacheprovider"]
    cron: "0 2 29 2 *"
    zone: Europe/Berlin
    jitter: 5m
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLab]:
    with staffed_lab(tmp_path_factory.mktemp("lab") / "here", LAB.replace("cycles:\n", CYCLES)) as lab:
        yield lab


@pytest.fixture
def operator(lab: SharedLab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Operator:
    return as_operator(lab, capsys, monkeypatch)


def until(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def over(operator: Operator, cycle: str, number: int) -> dict[str, object]:
    """Return a round once it is over."""

    def found() -> dict[str, object]:
        rounds = operator.types(f"cycle show {cycle} --json").json
        return next((each for each in rounds if each["number"] == number and each["ended"]), {})

    until(found)
    return found()


def phase(operator: Operator, cycle: str) -> str:
    return next(str(each["phase"]) for each in operator.types("cycle list --json").json if each["name"] == cycle)


def test_a_round_is_run_shown_and_compared_with_the_one_before(operator: Operator) -> None:
    said = operator.types("cycle now smoke").out
    assert said == "dispatch: a round of smoke begins now; `dispatch cycle logs smoke --follow` shows it\n"
    shown = operator.types("cycle logs smoke --follow").out
    assert "1 passed" in shown
    first = over(operator, "smoke", 1)
    assert (first["outcome"], first["counts"], first["values"]) == ("passed", {"passed": 1}, {"what": "smoke"})
    operator.types("cycle now smoke --set what=memory")
    second = over(operator, "smoke", 2)
    assert second["outcome"] == "failed"
    shown = operator.types("cycle show smoke").out
    assert "w::memory.efi fails now\n" in shown
    [*_, newest, _] = shown.splitlines()
    assert "1 new failure, 1 added, 1 gone" in newest
    listed = operator.types("cycle list").lines
    assert listed[1][:3] == ["smoke", "stopped", "failed"]
    assert "memory.efi" in operator.types("cycle logs smoke").out
    assert "<testsuites" in operator.types("cycle logs smoke 1 --junit").out
    runs = operator.types("history group:left --json").json["runs"]
    assert {run["who"] for run in runs} == {"cycle smoke"}


def test_a_cycle_is_started_paused_resumed_and_stopped(operator: Operator) -> None:
    assert operator.types("cycle start smoke --set what=hang").out == (
        "dispatch: smoke is started: its first round begins now\n"
    )
    until(lambda: phase(operator, "smoke") == "running")
    said = operator.types("cycle pause smoke the air conditioning").out
    assert said.startswith("dispatch: smoke is paused: the air conditioning; round ")
    assert "; round " in operator.types("cycle stop smoke").out
    last = max(each["number"] for each in operator.types("cycle show smoke --json").json)
    stopped = over(operator, "smoke", last)
    assert (stopped["outcome"], stopped["reason"]) == ("error", "lab stopped it")
    assert phase(operator, "smoke") == "paused"
    assert "paused   " in operator.types("cycle show smoke").out
    assert operator.types("cycle resume smoke").out == "dispatch: smoke is stopped again\n"


def test_a_round_without_anything_to_run_is_an_error(operator: Operator) -> None:
    operator.types("cycle now empty")
    found = over(operator, "empty", 1)
    assert (found["outcome"], found["reason"]) == ("error", "the selection has no items")


def test_a_schedule_is_told_in_words(operator: Operator) -> None:
    operator.types("cycle start empty")
    told = operator.types("cycle show empty").out
    assert "0 2 29 2 * (Europe/Berlin), up to 5m later" in told
    operator.types("cycle stop empty")
    assert "6h after the last" in operator.types("cycle list").out


def numbered(first: int, last: int) -> str:
    return "".join(f"line {number}\n" for number in range(first, last))


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("", numbered(1, 3), numbered(1, 3)),
        (numbered(1, 3), numbered(1, 6), numbered(3, 6)),
        (numbered(1, 6), f"{LEFT_OUT}ne 3\n{numbered(4, 9)}", numbered(6, 9)),
        (f"{LEFT_OUT}e 1\n{numbered(2, 6)}", f"{LEFT_OUT}\n{numbered(5, 9)}rest", f"{numbered(6, 9)}rest"),
        (numbered(1, 6), f"{LEFT_OUT}e 3\n{numbered(4, 6)}", ""),
        ("a\na\nb\n", f"{LEFT_OUT}\na\nb\na\n", "a\n"),
        (numbered(1, 3), f"{LEFT_OUT}ne 5\n{numbered(6, 9)}", f"{LEFT_OUT}ne 5\n{numbered(6, 9)}"),
        (numbered(1, 3), f"{LEFT_OUT}{'x' * 90}", f"{LEFT_OUT}{'x' * 90}"),
    ],
    ids=["nothing before", "all kept", "cut", "cut twice", "nothing new", "repeating", "a gap", "a line without end"],
)
def test_output_whose_beginning_is_gone_is_shown_once(before: str, now: str, new: str) -> None:
    assert added(before, now) == new


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("cycle show smoek", "no cycle 'smoek': did you mean smoke?; `dispatch cycle list` shows all"),
        ("cycle now smoke --set what=all", "what: expected smoke or memory or hang, got 'all'"),
        ("cycle now smoke --set which=smoke", "cycle smoke: no parameter 'which'; expected one of what"),
        ("cycle now smoke --set smoke", "--set: expected NAME=VALUE, got 'smoke'"),
        ("cycle resume smoke", "cycle smoke: expected one that is paused, got one that is stopped"),
        ("cycle stop smoke", "cycle smoke: expected one that is started, got one that is stopped"),
        ("cycle logs smoke 4000", "cycle smoke has no round 4000"),
    ],
)
def test_what_cannot_be_done_is_one_line(operator: Operator, line: str, said: str) -> None:
    ran = operator.types(line, code=1 if "NAME=VALUE" not in said else 2)
    assert said in ran.err
