"""Tables of builds: what fails anew comes first, and each cell has its latest run."""

from __future__ import annotations

from typing import Any

from pytest_dispatch.core.annotations import Override
from pytest_dispatch.core.builds import RELEASES, Standing, build_table
from pytest_dispatch.core.ended_runs import EndedRun
from pytest_dispatch.core.model import Outcome

PASSED, FAILED, ERROR = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR


def ended(place: int, outcome: Outcome, release: str = "v2", group: str = "lab", **more: Any) -> EndedRun:
    values: dict[str, Any] = {
        "place": place,
        "run": f"r-{place}",
        "session": "s",
        "kind": "boot",
        "source": f"me/lab@{release}" if release else "folder",
        "name": "a.efi",
        "digest": f"sha256:{release}",
        "group": group,
        "machine": "m",
        "who": "ada",
        "outcome": outcome,
        "original": outcome,
        "reason": "",
        "ended": float(place),
        "seconds": 1.0,
        "attempts": 1,
        "flaky": False,
        "cancelled": False,
    }
    return EndedRun(**values | more)


def test_new_failures_come_first_then_old_ones_then_what_passes() -> None:
    table = build_table(
        {
            ("boot", "good"): [ended(9, PASSED), ended(3, FAILED)],
            ("boot", "never"): [ended(8, FAILED), ended(2, FAILED)],
            ("boot", "earlier"): [ended(7, FAILED), ended(4, PASSED)],
            ("boot", "later"): [ended(10, ERROR), ended(5, PASSED)],
        }
    )
    assert [row.name for row in table.rows] == ["later", "earlier", "never", "good"]
    assert [row.standing for row in table.rows] == [Standing.NEW, Standing.NEW, Standing.BAD, Standing.GOOD]


def test_a_cell_is_the_latest_run_of_a_release_in_a_group() -> None:
    runs = [ended(6, PASSED, group="arm"), ended(5, FAILED), ended(4, PASSED), ended(3, PASSED, "v1")]
    [row] = build_table({("boot", "a.efi"): runs}).rows
    assert {key: run.place for key, run in row.latest.items()} == {("v2", "arm"): 6, ("v2", "lab"): 5, ("v1", "lab"): 3}


def test_many_groups_that_passed_are_one_cell_and_others_stand_alone() -> None:
    groups = {"a": PASSED, "b": FAILED, "c": PASSED, "d": PASSED, "e": ERROR}
    runs = [ended(place, outcome, group=group) for place, (group, outcome) in enumerate(groups.items(), 1)]
    [row] = build_table({("boot", "a.efi"): runs}).rows
    assert [(each.what, each.outcome) for each in row.cells("v2")] == [
        ("b", FAILED),
        ("e", ERROR),
        ("3 groups", PASSED),
    ]
    assert not row.cells("v1")
    [row] = build_table({("boot", "a.efi"): runs[:3]}).rows
    assert [each.what for each in row.cells("v2")] == ["a", "b", "c"]


def test_a_workload_fails_if_it_does_in_one_group() -> None:
    """Though it passes in others, and did so later."""
    runs = [ended(6, PASSED, group="arm"), ended(5, FAILED), ended(4, PASSED, "v1")]
    [row] = build_table({("boot", "a.efi"): runs}).rows
    assert row.standing is Standing.NEW
    assert row.turning.first_bad == runs[1]
    assert {each.what for each in row.turning.changed} == {"digest", "release"}
    assert {each.what for each in row.changed} == {"release"}


def test_the_newest_releases_are_those_that_ran_last() -> None:
    runs = [ended(100 - n, PASSED, f"v{n}") for n in range(RELEASES + 3)]
    table = build_table({("boot", "a.efi"): runs})
    assert table.releases == tuple(f"v{n}" for n in range(RELEASES))


def test_a_project_without_releases_has_one_column() -> None:
    table = build_table({("boot", "a.efi"): [ended(1, PASSED, "")]})
    assert table.releases == ("",)


def test_runs_that_were_cancelled_say_nothing() -> None:
    table = build_table({("boot", "a.efi"): [ended(2, FAILED, cancelled=True)], ("boot", "b.efi"): [ended(1, PASSED)]})
    assert [row.standing for row in table.rows] == [Standing.GOOD]


def test_a_failure_of_which_somebody_has_said_something_needs_no_review() -> None:
    override = Override(outcome=ERROR, reason="the switch", who="ada", at=1.0)
    for run, needs in (
        (ended(1, FAILED), True),
        (ended(1, FAILED, notes=1), False),
        (ended(1, ERROR, override=override), False),
        (ended(1, PASSED), False),
    ):
        [row] = build_table({("boot", "a.efi"): [run]}).rows
        assert row.needs_review("v2") is needs
        assert not row.needs_review("v1")
