"""Cycles: what people may ask of them, when rounds begin, and what is said of times that passed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_dispatch.core.cycle_plan import CyclePlan, Parameter, Schedule
from pytest_dispatch.core.cycle_state import CyclePhase, Round, Wish
from pytest_dispatch.core.cycles import LATE, Cycles
from pytest_dispatch.core.errors import ConfigError, CycleError, NoCycleError
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Outcome

HOUR = 3600.0
NOON = 43_200.0
EVERY, HOURLY, ONCE = Schedule(every=6 * HOUR), Schedule(cron="0 * * * *"), Schedule(once=0.0)


def hourly(_schedule: Schedule, after: float) -> float:
    return (after // HOUR + 1) * HOUR


def plan(schedule: Schedule = EVERY, *parameters: Parameter, arguments: tuple[str, ...] = ()) -> CyclePlan:
    return CyclePlan(name="rack", folder="/", schedule=schedule, parameters=parameters, arguments=arguments)


def cycles(schedule: Schedule = EVERY, *parameters: Parameter, spread: float = 0.0) -> Cycles:
    made = Cycles(hourly, lambda: spread)
    made.set([plan(schedule, *parameters)], NOON)
    return made


def started(schedule: Schedule = EVERY, now: float = NOON, *, spread: float = 0.0) -> Cycles:
    made = cycles(schedule, spread=spread)
    made.start("rack", Wish(who="ada", at=now))
    return made


def end(made: Cycles, each: Round, now: float) -> None:
    made.end(replace(each, outcome=Outcome.PASSED), now)


def missed(made: Cycles) -> list[Round]:
    return [each for each in made.changed if isinstance(each, Round) and each.missed]


def test_the_first_round_begins_at_the_start_and_the_next_six_hours_after_its_end() -> None:
    made = started()
    [first] = made.begin_due(NOON)
    assert (first.number, first.who, made.phase("rack")) == (1, "", CyclePhase.RUNNING)
    assert made.begin_due(NOON + 7 * HOUR) == [], "a round does not begin while the last one runs"
    end(made, first, NOON + 8 * HOUR)
    assert made.state("rack").due == NOON + 14 * HOUR
    assert made.begin_due(NOON + 14 * HOUR - 1) == []
    [second] = made.begin_due(NOON + 14 * HOUR)
    assert second.number == 2


def test_a_schedule_of_times_of_day_begins_with_the_first_of_them() -> None:
    made = started(HOURLY, NOON + 60)
    assert made.begin_due(NOON + 61) == []
    [first] = made.begin_due(NOON + HOUR)
    end(made, first, NOON + HOUR + 10)
    assert made.begin_due(NOON + HOUR + 20) == []
    assert [each.number for each in made.begin_due(NOON + 2 * HOUR)] == [2]


def test_times_that_pass_while_a_round_runs_are_said_to_be_missed_and_not_made_up() -> None:
    made = started(HOURLY)
    [first] = made.begin_due(NOON + HOUR)
    assert made.begin_due(NOON + 3.5 * HOUR) == []
    assert [(each.missed, each.outcome, each.reason) for each in missed(made)] == [
        (2, Outcome.SKIPPED, "missed: round 1 was still running")
    ]
    end(made, first, NOON + 3.6 * HOUR)
    assert made.begin_due(NOON + 3.7 * HOUR) == []
    assert [each.number for each in made.begin_due(NOON + 4 * HOUR)] == [3], "the missed ones are number 2"


def test_a_time_that_passes_a_little_before_the_last_round_ends_is_not_missed() -> None:
    made = started(HOURLY)
    [first] = made.begin_due(NOON + HOUR)
    assert made.begin_due(NOON + 2 * HOUR + LATE / 2) == []
    end(made, first, NOON + 2 * HOUR + LATE / 2)
    assert [each.number for each in made.begin_due(NOON + 2 * HOUR + LATE / 2 + 1)] == [2]
    assert missed(made) == []


def test_missed_times_of_the_same_reason_are_one_row() -> None:
    made = started(HOURLY)
    made.begin_due(NOON + HOUR)
    for hours in range(3, 30):
        made.begin_due(NOON + hours * HOUR)
    assert {each.number for each in missed(made)} == {2}
    assert missed(made)[-1].missed == 27, "the last of 28 may still begin"


def test_a_lab_that_was_away_says_which_times_it_missed() -> None:
    before = started(HOURLY)
    before.begin_due(NOON)
    after = cycles(HOURLY)
    after.recall([before.state("rack")], [])
    assert after.begin_due(NOON + 5.5 * HOUR) == []
    assert [(each.missed, each.reason) for each in missed(after)] == [(5, "missed: the lab was not running")]
    assert len(after.begin_due(NOON + 6 * HOUR)) == 1


def test_a_cycle_by_intervals_misses_nothing_while_the_lab_is_away() -> None:
    before = started()
    [first] = before.begin_due(NOON)
    end(before, first, NOON + 10)
    after = cycles()
    after.recall([before.state("rack")], [])
    assert [each.number for each in after.begin_due(NOON + 100 * HOUR)] == [2]
    assert missed(after) == []


def test_a_cycle_that_runs_once_is_stopped_afterwards() -> None:
    made = started(ONCE)
    [only] = made.begin_due(NOON)
    end(made, only, NOON + 10)
    assert (made.phase("rack"), made.begin_due(NOON + 100 * HOUR)) == (CyclePhase.STOPPED, [])


def test_a_cycle_that_runs_once_waits_for_its_time() -> None:
    made = started(Schedule(once=NOON + HOUR))
    assert made.begin_due(NOON + HOUR - 1) == []
    assert len(made.begin_due(NOON + HOUR)) == 1


def test_jitter_puts_off_the_beginning() -> None:
    made = started(replace(HOURLY, jitter=600.0), spread=0.5)
    assert made.state("rack").due == NOON + HOUR + 300


def test_a_round_now_leaves_the_schedule_as_it_is() -> None:
    made = started(HOURLY)
    made.ask_now("rack", Wish(who="eve", at=NOON))
    [asked] = made.begin_due(NOON + 1)
    assert asked.who == "eve"
    end(made, asked, NOON + 60)
    assert [(each.number, each.who) for each in made.begin_due(NOON + HOUR)] == [(2, "")]


def test_a_round_now_of_a_stopped_cycle_leaves_it_stopped() -> None:
    made = cycles()
    made.ask_now("rack", Wish(who="eve", at=NOON))
    [asked] = made.begin_due(NOON)
    end(made, asked, NOON + 60)
    assert (made.phase("rack"), made.begin_due(NOON + 100 * HOUR)) == (CyclePhase.STOPPED, [])


def test_the_next_round_by_intervals_counts_from_the_end_of_one_that_was_asked_for() -> None:
    made = started()
    [first] = made.begin_due(NOON)
    end(made, first, NOON + HOUR)
    made.ask_now("rack", Wish(who="eve", at=NOON))
    [asked] = made.begin_due(NOON + 2 * HOUR)
    end(made, asked, NOON + 3 * HOUR)
    assert made.state("rack").due == NOON + 9 * HOUR


def test_a_paused_cycle_begins_nothing_and_says_what_passed_when_it_is_resumed() -> None:
    made = started(HOURLY)
    made.pause("rack", Hold(reason="the air conditioning", owner="ada"))
    assert (made.begin_due(NOON + 5.5 * HOUR), made.phase("rack")) == ([], CyclePhase.PAUSED)
    made.resume("rack", NOON + 5.5 * HOUR)
    assert [(each.missed, each.reason) for each in missed(made)] == [(5, "missed: ada had paused the cycle")]
    assert len(made.begin_due(NOON + 6 * HOUR)) == 1


def test_a_pause_ends_by_itself_when_it_says_so() -> None:
    made = started(HOURLY)
    made.pause("rack", Hold(reason="the air conditioning", owner="ada", until=NOON + 2.5 * HOUR))
    assert made.begin_due(NOON + 2.4 * HOUR) == []
    assert made.begin_due(NOON + 2.5 * HOUR) == []
    assert [each.missed for each in missed(made)] == [2]
    assert len(made.begin_due(NOON + 3 * HOUR)) == 1


def test_a_round_goes_on_while_the_cycle_is_paused_or_stopped() -> None:
    made = started()
    [first] = made.begin_due(NOON)
    made.pause("rack", Hold(reason="the air conditioning"))
    assert made.phase("rack") is CyclePhase.RUNNING
    made.stop("rack")
    end(made, first, NOON + HOUR)
    assert made.state("rack").due is None


@pytest.mark.parametrize("schedule", [EVERY, ONCE], ids=["every", "once"])
def test_one_that_is_started_again_while_its_stopped_round_ends_begins_another(schedule: Schedule) -> None:
    made = started(schedule)
    [first] = made.begin_due(NOON)
    made.stop("rack")
    made.start("rack", Wish(who="eve", at=NOON + 10))
    end(made, first, NOON + 60)
    assert [each.number for each in made.begin_due(NOON + 61)] == [2]


def test_one_that_is_gone_begins_nothing_more() -> None:
    made = started()
    [first] = made.begin_due(NOON)
    made.set([], NOON)
    for ask in (made.start, made.ask_now):
        with pytest.raises(CycleError, match=r"^cycle rack: expected one of the lab's configuration, got one "):
            ask("rack", Wish(who="eve", at=NOON))
    end(made, first, NOON + 60)
    assert (made.begin_due(NOON + 100 * HOUR), made.plans) == ([], {})


def test_a_new_schedule_is_planned_from_now_on() -> None:
    made = started()
    [first] = made.begin_due(NOON)
    end(made, first, NOON)
    made.set([plan(Schedule(every=HOUR))], NOON + 60)
    assert made.state("rack").due == NOON + 60 + HOUR
    made.set([plan(Schedule(every=HOUR))], NOON + 120)
    assert made.state("rack").due == NOON + 60 + HOUR, "a reload that changes nothing puts nothing off"


def test_what_cannot_be_done_is_refused_in_a_line() -> None:
    made = started()
    with pytest.raises(NoCycleError, match=r"^no cycle 'rick'; did you mean rack\?$"):
        made.start("rick", Wish(who="eve", at=NOON))
    with pytest.raises(CycleError, match=r"^cycle rack: expected one that is stopped, got one that ada has started; "):
        made.start("rack", Wish(who="eve", at=NOON))
    with pytest.raises(CycleError, match=r"^cycle rack: expected one that is paused, got one that is waiting$"):
        made.resume("rack", NOON)
    made.ask_now("rack", Wish(who="ada", at=NOON))
    with pytest.raises(CycleError, match=r"^cycle rack: ada has asked for a round already, which is about to begin$"):
        made.ask_now("rack", Wish(who="eve", at=NOON))
    made.begin_due(NOON)
    with pytest.raises(CycleError, match=r"^cycle rack: expected one without a round under way, got round 1; wait for"):
        made.ask_now("rack", Wish(who="eve", at=NOON))
    made.stop("rack")
    made.pause("rack", Hold(reason="the air conditioning"))
    end(made, made.under_way["rack"], NOON)
    with pytest.raises(
        CycleError, match=r"^cycle rack: expected one that is not paused \(the air conditioning\); resume"
    ):
        made.ask_now("rack", Wish(who="eve", at=NOON))
    with pytest.raises(CycleError, match=r"^cycle rack: expected one that is started, got one that is stopped$"):
        made.stop("rack")


DISTRO = Parameter(name="distro", choices=("noble", "jammy"), default="noble")
NAMES = Parameter(name="names", pattern=r"[\w -]*")


def test_only_declared_parameters_and_allowed_values_can_be_chosen() -> None:
    made = cycles(EVERY, DISTRO, NAMES)
    for values, said in (
        ({"release": "noble"}, r"cycle rack: no parameter 'release'; expected one of distro, names"),
        ({"distro": "sid"}, r"distro: expected noble or jammy, got 'sid'"),
        ({"names": "a;b"}, r"names: expected something like \[\\w -\]\*, got 'a;b'"),
        ({"names": "--rootdir=/"}, r"names: expected at most 200 printable characters that begin neither with -"),
        ({"names": "@/etc/passwd"}, r"names: expected at most 200 printable characters that begin neither with -"),
        ({"names": "a\nb"}, r"names: expected at most 200 printable characters"),
        ({"names": "a" * 201}, r"names: expected at most 200 printable characters"),
    ):
        with pytest.raises(CycleError, match=rf"^{said}"):
            made.start("rack", Wish(who="ada", at=NOON, values=values))
    made.start("rack", Wish(who="ada", at=NOON, values={"names": "a b"}))
    [first] = made.begin_due(NOON)
    assert first.values == {"distro": "noble", "names": "a b"}


def test_a_round_now_has_the_values_of_the_start_but_for_those_it_chooses() -> None:
    made = cycles(EVERY, DISTRO, NAMES)
    made.start("rack", Wish(who="ada", at=NOON, values={"names": "a b"}))
    made.ask_now("rack", Wish(who="eve", at=NOON, values={"distro": "jammy"}))
    [first] = made.begin_due(NOON)
    assert first.values == {"distro": "jammy", "names": "a b"}


def test_arguments_have_the_values_in_place_of_their_names() -> None:
    made = plan(EVERY, DISTRO, arguments=("--distro={distro}", "{{x}}", "-k", "a and {distro}"))
    assert made.command({"distro": "jammy"}) == ("--distro=jammy", "{x}", "-k", "a and jammy")


@pytest.mark.parametrize("argument", ["{other}", "{", "a}", "{}", "{distro!r}", "{distro.name}"])
def test_arguments_name_declared_parameters_alone(argument: str) -> None:
    with pytest.raises(ConfigError, match=r"^arguments: expected \{NAME\} of a declared parameter, or "):
        plan(EVERY, DISTRO, arguments=(argument,))


def test_a_default_is_a_value_that_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"^distro: expected noble, got 'jammy'"):
        plan(EVERY, Parameter(name="distro", choices=("noble",), default="jammy"))
