"""Links to known issues: carried over by failing cases, and ended by a pass or another failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dispatch.core.known_issues import (
    BY_LAB,
    MOST_LINKS,
    IssueLink,
    KnownIssues,
    Lane,
    digest_of,
    failing_cases,
    machine_class,
    marker_of,
    over,
)
from pytest_dispatch.core.model import Attempt, Case, KnownBy, Moment, Outcome, Phase, Placement, Report, Run, Workload
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.run_series import Series

LANE = Lane(Series("boot", "w", "a.efi"), "arch=arm")
URL = "https://github.com/me/lab/issues/7"


def run(number: int, outcome: Outcome, *failed: str, reason: str = "it reported failed") -> Run:
    cases = tuple(Case(name=name, outcome=Outcome.FAILED if name in failed else Outcome.PASSED) for name in "xyz")
    attempt = Attempt(
        number=1,
        history=(Moment(state="finished", phase=Phase.OVER, at=float(number)),),
        placements=(Placement(machine="rack-1", known_by=KnownBy.ADDRESS, at=0.0),),
        reports=(Report(title="a", cases=cases if failed or outcome is Outcome.PASSED else ()),),
        outcome=outcome,
    )
    workload = Workload(name="a.efi", kind="boot")
    return Run(
        id=f"s.{number}",
        session="s",
        key="a",
        position=number,
        workload=workload,
        limits={},
        expect="report",
        attempts=(attempt,),
        outcome=outcome,
        reason=reason,
    )


@dataclass
class Story:
    """A lab that runs one workload again and again."""

    known: KnownIssues = field(default_factory=KnownIssues)
    number: int = 0

    def ends(self, outcome: Outcome, *failed: str, reason: str = "it reported failed") -> str:
        """Have a run end; returns its id."""
        self.number += 1
        ended = run(self.number, outcome, *failed, reason=reason)
        if outcome is Outcome.PASSED:
            self.known.passed(LANE)
        else:
            self.known.failed(ended, LANE, float(self.number))
        return ended.id

    def link(self, to: str, url: str = URL, by: str = "ada") -> None:
        self.known.link(to, IssueLink(url=url, since=float(self.number), by=by))

    def urls(self, of: str) -> list[str]:
        return [link.url for link in self.known.links_of(of)]


FAILED, PASSED, ERROR = Outcome.FAILED, Outcome.PASSED, Outcome.ERROR


def test_a_link_is_carried_over_to_the_same_failure() -> None:
    story = Story()
    first = story.ends(FAILED, "x", "y")
    story.link(first)
    again = story.ends(FAILED, "y", "x")
    (link,) = story.known.links_of(again)
    assert link == IssueLink(url=URL, since=1.0, by="ada", carried=first)
    third = story.ends(FAILED, "x", "y")
    assert [link.carried for link in story.known.links_of(third)] == [again]


@pytest.mark.parametrize("between", [(PASSED,), (FAILED, "x"), (FAILED, "x", "y", "z")])
def test_a_pass_and_other_failing_cases_end_it(between: Sequence[str]) -> None:
    story = Story()
    story.link(story.ends(FAILED, "x", "y"))
    story.ends(Outcome(between[0]), *between[1:])
    assert story.urls(story.ends(FAILED, "x", "y")) == []


def test_a_fault_of_the_lab_changes_nothing_and_has_links_of_its_own() -> None:
    story = Story()
    story.link(story.ends(FAILED, "x"))
    fault = story.ends(ERROR, reason="rack-1 did not boot within 900 s")
    assert story.urls(fault) == []
    story.link(fault, "https://example.org/power")
    assert story.urls(story.ends(FAILED, "x")) == [URL]
    assert story.urls(story.ends(ERROR, reason="rack-1 did not boot within 901 s")) == ["https://example.org/power"]
    story.ends(PASSED)
    assert story.urls(story.ends(ERROR, reason="rack-1 did not boot within 900 s")) == []


def test_a_link_to_an_older_run_stays_there() -> None:
    story = Story()
    first = story.ends(FAILED, "x")
    story.ends(FAILED, "x")
    story.link(first)
    assert story.urls(first) == [URL]
    assert story.urls(story.ends(FAILED, "x")) == []


def test_a_link_that_is_taken_away_is_not_carried_over() -> None:
    story = Story()
    first = story.ends(FAILED, "x")
    story.link(first)
    story.known.unlink(first, URL)
    assert story.urls(first) == story.urls(story.ends(FAILED, "x")) == []


def test_of_the_issues_that_the_lab_files_the_first_is_carried_over() -> None:
    story = Story()
    for number in range(3):
        story.known.filed(story.ends(FAILED, "x"), f"{URL}{number}", 0.0)
    last = story.ends(FAILED, "x")
    assert [(link.url, link.by) for link in story.known.links_of(last)] == [(f"{URL}0", BY_LAB)]


def test_a_run_has_a_limited_number_of_links() -> None:
    story = Story()
    first = story.ends(FAILED, "x")
    for number in range(MOST_LINKS + 5):
        story.link(first, f"{URL}{number}")
    assert len(story.urls(first)) == len(story.urls(story.ends(FAILED, "x"))) == MOST_LINKS


def test_what_is_kept_is_taken_up_by_the_next_lab() -> None:
    story = Story()
    story.link(story.ends(FAILED, "x"))
    kept = [failure for failure in story.known.changed.values() if failure is not None]
    story.known = KnownIssues()
    story.known.recall(kept)
    assert story.urls(story.ends(FAILED, "x")) == [URL]


def test_passes_in_a_row_close_what_is_kept() -> None:
    story = Story()
    for failed in ("x", "y"):
        ended = run(1, FAILED, failed)
        story.known.track(story.known.failed(ended, LANE, 1.0), "me/lab", "api")
    story.known.passed(LANE)
    story.known.failed(run(2, FAILED, "z"), LANE, 2.0)  # begins anew
    assert list(over(story.known.passed(LANE), 2)) == []
    both = story.known.passed(LANE)
    assert {failure.cases for failure in over(both, 2)} == {("x",), ("y",)}
    assert not list(over(both, 0))
    assert [failure.cases for failure in both if not failure.repo] == [], "what nobody keeps an issue for is forgotten"


CASES = st.frozensets(st.sampled_from("xyz"), min_size=1)
ENDS = st.one_of(
    st.tuples(st.just(FAILED), CASES),
    st.tuples(st.just(PASSED), st.just(frozenset[str]())),
    st.tuples(st.just(ERROR), st.just(frozenset[str]())),
)


@given(st.lists(st.tuples(ENDS, st.booleans()), max_size=30))
def test_it_is_as_a_person_would_look_it_up(ends: list[tuple[tuple[Outcome, frozenset[str]], bool]]) -> None:
    """A run has the links of the latest one with its outcome, if that had its failing cases and none passed since."""
    story, before = Story(), list[tuple[Outcome, frozenset[str], str]]()
    for number, ((outcome, failed), linked) in enumerate(ends):
        now = story.ends(outcome, *sorted(failed), reason="it did not boot" if outcome is ERROR else "")
        since = before[max([n + 1 for n, each in enumerate(before) if each[0] is PASSED], default=0) :]
        latest = next((each for each in reversed(since) if each[0] is outcome), None)
        expected = story.urls(latest[2]) if latest is not None and latest[1] == failed and outcome is not PASSED else []
        assert story.urls(now) == expected
        if linked and outcome is not PASSED:
            story.link(now, f"{URL}{number}")
        before.append((outcome, failed, now))


def test_failures_are_told_apart_by_cases_else_by_the_kind_of_their_reason() -> None:
    def told(outcome: Outcome, *failed: str, reason: str = "r") -> str:
        ended = run(1, outcome, *failed, reason=reason)
        return digest_of(ended, failing_cases(ended.attempt))

    assert told(FAILED, "x", reason="a") == told(FAILED, "x", reason="b")
    assert told(FAILED, "x") != told(FAILED, "y")
    assert told(FAILED, reason="no report in 30 s") == told(FAILED, reason="no report in 3600 s")
    assert told(FAILED, reason="rack-1: page fault at 0xdeadbeef") == told(FAILED, reason="rack-1: page fault at 0x1f")
    assert told(FAILED, reason="kernel panic") != told(FAILED, reason="no report")
    assert told(FAILED) != told(ERROR)


@pytest.mark.parametrize(
    ("requires", "labels", "expected"),
    [
        ([], {"arch": "arm"}, ""),
        (["arch=arm"], {"arch": "arm", "rack": "1"}, "arch=arm"),
        (["arch"], {"arch": "arm", "rack": "2"}, "arch=arm"),
        (["gpu"], {"gpu": ""}, "gpu"),
        (["memory>=64", "!broken"], {"memory": "128"}, "!broken, memory=128"),
        (["arch in (arm, riscv)"], None, "arch in (arm, riscv)"),
    ],
)
def test_a_class_of_machines_is_what_requirements_name(
    requires: list[str], labels: dict[str, str] | None, expected: str
) -> None:
    assert machine_class(read_requirements(requires, ""), labels) == expected


def test_every_lab_makes_the_same_marker_of_a_failure() -> None:
    assert marker_of(LANE, "abc") == "dispatch-series-90c1fb52cc3d88f9034d48e9817d7197"
    other = Lane(LANE.series, "arch=riscv")
    assert len({marker_of(LANE, "abc"), marker_of(LANE, "abd"), marker_of(other, "abc")}) == 3
