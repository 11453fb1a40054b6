"""Groups: which one a run is in, how many of its runs may be under way, its pause, and what a reload does to it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.group_queue import NotQueuedError
from pytest_dispatch.core.group_table import EVERY
from pytest_dispatch.core.groups import LAB, Group, NoGroupError
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.model import KnownBy, Outcome, Policy, Priority, Run, Workload
from pytest_dispatch.core.queue import Queue
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.run_options import RunOptions
from pytest_dispatch.core.scheduler import Capacity
from pytest_dispatch.core.templates import NoTemplateError, Template, TemplateTable
from pytest_dispatch.workloads.boot.rules import RULES

ALL = {"arch": "x86", "gpu": "", "memory": "64"}
RACK, GPU = Group(id="rack", labels={"arch": "x86"}), Group(id="gpu", labels={"gpu": "", "arch": "x86"})


class Bench:
    """A queue with groups, two sessions, and machines that take what there is."""

    def __init__(self, *groups: Group) -> None:
        self.queue, self.now = Queue({BOOT: RULES}), 1000.0
        self.machines = 0
        for session in "st":
            self.queue.table.open(session, Policy(limits={"assign": 100.0}))
        self.queue.group_queue.set(groups, self.now)

    def submit(self, name: str, *requires: str, session: str = "s", ready: bool = True, **more: Any) -> Run:
        payload = {"media": "efi", "location": "sha256:0", "size": 1}
        required = read_requirements(requires, "")
        workload = Workload(name=name, kind=BOOT, payload=payload, requires=required, **more)
        run = self.queue.sessions.submit(session, name, workload, self.now)
        if ready:
            self.queue.transitions.has_what_it_needs(run.id, self.now)
        return self.queue.runs[run.id]

    def take(self, **labels: str) -> str:
        """A machine of its own asks; returns the name of what it gets, empty if that is nothing."""
        self.machines += 1
        name = f"m{self.machines}"
        self.queue.machines.declare(name, labels=labels or ALL)
        self.queue.machines.asks(name, KnownBy.ADDRESS, self.now)
        run = self.queue.scheduler.take(Capacity(kind=BOOT, labels=labels or ALL, machine=name), self.now)
        return run.workload.name if run is not None else ""

    def end(self, name: str) -> None:
        self.queue.verdicts.cancel(self.run(name).id, self.now)

    def run(self, name: str) -> Run:
        return next(run for run in self.queue.runs.values() if run.workload.name == name)

    def order(self, group: str) -> list[str]:
        return [record.run.workload.name for record in self.queue.group_queue.order(group)]

    def put_first(self, *names: str) -> None:
        self.queue.group_queue.put_first(LAB, [self.run(name).id for name in names])

    def move(self, name: str, **where: Any) -> None:
        where = {key: self.run(each).id if isinstance(each, str) else each for key, each in where.items()}
        self.queue.group_queue.move(self.run(name).id, **where)


# Which group


@pytest.mark.parametrize(
    ("requires", "group"),
    [
        ([], "rack"),
        (["arch=x86"], "rack"),
        (["gpu"], "gpu"),
        (["!gpu"], "rack"),
        (["memory>=64"], LAB),
        (["arch in (arm, x86)", "gpu"], "gpu"),
    ],
)
def test_the_first_group_whose_labels_suit(requires: list[str], group: str) -> None:
    bench = Bench(RACK, GPU)
    assert bench.submit("a", *requires).group == group


def test_the_group_that_it_names() -> None:
    bench = Bench(RACK, GPU)
    assert bench.submit("a", group="gpu").group == "gpu"
    assert bench.submit("b", "memory>=8", group="rack").group == "rack"


def test_without_configuration_there_is_one_group() -> None:
    bench = Bench()
    assert [*bench.queue.groups] == [LAB]
    assert bench.submit("a", "gpu").group == LAB


def test_lab_may_be_configured_and_then_has_its_place() -> None:
    bench = Bench(Group(id=LAB, max_running=1), RACK)
    assert [*bench.queue.groups] == [LAB, "rack"]
    assert bench.submit("a").group == LAB


def test_a_group_that_there_is_not_is_refused_with_the_nearest() -> None:
    bench = Bench(RACK, GPU)
    with pytest.raises(ConfigError, match=r"a: the lab has no group 'rak': did you mean rack\?"):
        bench.submit("a", group="rak")
    with pytest.raises(ConfigError, match="the lab has no group 'zoo': expected one of rack, gpu, lab"):
        bench.submit("a", group="zoo")
    assert not bench.queue.runs


def test_only_machines_of_the_group_get_its_runs() -> None:
    bench = Bench(RACK, GPU)
    bench.submit("a", group="gpu")
    assert bench.take(arch="x86") == ""
    assert bench.take(gpu="") == ""
    assert bench.take(gpu="", arch="x86") == "a"


def test_what_the_group_requires_is_said() -> None:
    bench = Bench(GPU)
    run = bench.submit("a", group="gpu")
    bench.take(arch="arm")
    lacking = bench.queue.scheduler.lacking(run)
    assert (
        lacking
        == "it requires arch=x86, gpu; the nearest is m1: it has arch=arm, wanted is arch=x86, it has no label gpu"
    )


def test_a_chain_is_in_the_group_of_its_first_run() -> None:
    bench = Bench(RACK, GPU)
    assert bench.submit("a", chain="c").group == "rack"
    assert bench.submit("b", "gpu", chain="c").group == "rack"
    wrong = bench.submit("d", chain="c", group="gpu")
    assert wrong.outcome is Outcome.ERROR
    assert "expected all runs of a chain in one group, got gpu: s.0 is in rack" in wrong.reason


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"id": "a b"}, "group: expected an id of letters, digits, '.', '_' and '-', got 'a b'"),
        ({"id": "a", "max_running": 0}, "group a: max_running: expected a number of at least 1, got 0; to stop"),
    ],
)
def test_a_group_with_values_that_cannot_be_used(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Group(**values)
    assert str(caught.value).startswith(told)


def test_two_groups_with_one_id() -> None:
    bench = Bench(RACK)
    with pytest.raises(ConfigError, match="groups: expected each id once, got 'gpu' twice"):
        bench.queue.group_queue.set([GPU, GPU], bench.now)
    assert [*bench.queue.groups] == ["rack", LAB], "nothing was changed"


# How many at once


def test_no_more_than_may_be_under_way_begin() -> None:
    bench = Bench(Group(id="few", max_running=2), RACK)
    for name in "abc":
        bench.submit(name, group="few")
    bench.submit("r", group="rack")
    assert [bench.take() for _ in range(4)] == ["a", "b", "r", ""]
    assert (bench.queue.groups.running("few"), bench.queue.group_queue.queued("few")) == (2, 1)
    bench.end("a")
    assert [bench.take(), bench.take()] == ["c", ""]


def test_a_limit_that_is_raised_or_taken_away() -> None:
    bench = Bench(Group(id="few", max_running=1))
    for name in "abcd":
        bench.submit(name, group="few")
    assert [bench.take(), bench.take()] == ["a", ""]
    bench.queue.group_queue.set([Group(id="few", max_running=2)], bench.now)
    assert [bench.take(), bench.take()] == ["b", ""]
    bench.queue.group_queue.set([Group(id="few")], bench.now)
    assert [bench.take(), bench.take()] == ["c", "d"]
    bench.queue.group_queue.set([Group(id="few", max_running=1)], bench.now)
    assert bench.queue.groups.running("few") == 4, "what is under way goes on"


# Pauses and holds


def test_a_paused_group_begins_nothing_and_its_runs_do_not_time_out() -> None:
    bench = Bench(RACK)
    bench.submit("a")
    bench.queue.groups.pause("rack", Hold(reason="moving house", until=bench.now + 5000.0), bench.now)
    assert not bench.queue.transitions.run_index.calls_for_machines
    for _ in range(49):
        bench.now += 101.0
        bench.queue.expire(bench.now)
        assert bench.take() == ""
    bench.now += 100.0
    bench.queue.expire(bench.now)
    assert bench.run("a").outcome is None
    assert "rack" not in bench.queue.groups.pauses
    bench.now += 99.0
    bench.queue.expire(bench.now)
    assert bench.run("a").outcome is None, "its wait has begun anew"
    bench.now += 2.0
    bench.queue.expire(bench.now)
    assert bench.run("a").outcome is Outcome.ERROR


def test_a_run_that_is_submitted_to_a_paused_group_waits_from_its_end_on() -> None:
    bench = Bench(RACK)
    bench.queue.groups.pause("rack", Hold(reason="moving house"), bench.now)
    bench.submit("a")
    bench.now += 1000.0
    bench.queue.expire(bench.now)
    bench.queue.groups.resume("rack", bench.now)
    bench.now += 99.0
    bench.queue.expire(bench.now)
    assert bench.run("a").outcome is None
    assert bench.take() == "a"


def test_a_held_run_is_passed_over_until_it_is_released() -> None:
    bench = Bench()
    a, b = bench.submit("a"), bench.submit("b")
    bench.queue.group_queue.hold(a.id, Hold(reason="wait for me", until=bench.now + 500.0), bench.now)
    assert [bench.take(), bench.take()] == ["b", ""]
    bench.end("b")
    assert b.group == LAB
    bench.now += 499.0
    bench.queue.expire(bench.now)
    assert bench.take() == ""
    bench.now += 1.0
    bench.queue.expire(bench.now)
    assert bench.run("a").outcome is None
    assert bench.take() == "a"


def test_a_run_that_is_over_cannot_be_held_and_loses_its_hold() -> None:
    bench = Bench()
    run = bench.submit("a")
    bench.queue.group_queue.hold(run.id, Hold(reason="wait"), bench.now)
    bench.end("a")
    assert run.id not in bench.queue.transitions.held
    with pytest.raises(NotQueuedError, match=r"expected a run that is not over, got s\.0, which has error"):
        bench.queue.group_queue.hold(run.id, Hold(reason="wait"), bench.now)


def test_machines_are_switched_on_only_for_what_may_begin() -> None:
    bench = Bench(Group(id="few", max_running=1))
    run = bench.submit("a", group="few")
    index = bench.queue.transitions.run_index
    assert (index.calls_for_machines, index.waiting) == (True, [run.id])
    bench.submit("b", group="few")
    bench.take()
    assert (index.calls_for_machines, index.waiting) == (False, [])
    bench.end("a")
    assert index.calls_for_machines


def test_a_held_lab_begins_nothing_in_any_group_and_what_is_under_way_goes_on() -> None:
    bench = Bench(RACK, GPU)
    for name, group in (("a", "rack"), ("b", "gpu"), ("c", "lab")):
        bench.submit(name, group=group)
    assert bench.take() == "a"
    bench.queue.groups.pause(EVERY, Hold(reason="the air conditioning", until=bench.now + 50.0), bench.now)
    assert (bench.take(), bench.queue.transitions.run_index.calls_for_machines) == ("", False)
    assert bench.queue.groups.lab_hold is not None
    bench.queue.groups.pause("gpu", Hold(reason="new fans"), bench.now)
    bench.now += 50.0
    bench.queue.expire(bench.now)
    assert bench.queue.groups.lab_hold is None
    assert [bench.take(), bench.take()] == ["c", ""], "the pause of a group is its own"
    bench.queue.groups.resume("gpu", bench.now)
    assert bench.take() == "b"


def test_a_run_of_a_chain_that_is_held_does_not_follow_on() -> None:
    bench = Bench()
    bench.submit("a", chain="c")
    second = bench.submit("b", chain="c")
    assert bench.take() == "a"
    bench.queue.group_queue.hold(second.id, Hold(reason="let me look at it first"), bench.now)
    for event in ("send", "sent", "boot", "return"):
        bench.queue.transitions.move(bench.run("a").id, event, bench.now)
    bench.queue.verdicts.amend(bench.run("a").id, None, "", bench.now)
    if bench.run("a").outcome is Outcome.PASSED:
        assert not bench.run("b").attempt.placements
        bench.queue.group_queue.release(second.id, bench.now)
        assert bench.run("b").attempt.machine == "m1"


# The order, and moves in it


def test_a_moved_run_takes_the_priority_of_where_it_is_put() -> None:
    bench = Bench()
    for name, priority in (("a", Priority.URGENT), ("b", Priority.URGENT), ("c", Priority.NORMAL), ("d", Priority.LOW)):
        bench.submit(name, priority=priority)
    bench.move("d", before="b")
    assert bench.order(LAB) == ["a", "d", "b", "c"]
    assert bench.run("d").priority is Priority.URGENT
    bench.move("a", after="c")
    assert (bench.order(LAB), bench.run("a").priority) == (["d", "b", "c", "a"], Priority.NORMAL)
    bench.move("c")
    assert (bench.order(LAB), bench.run("c").priority) == (["c", "d", "b", "a"], Priority.URGENT)
    bench.move("c", bottom=True)
    assert (bench.order(LAB), bench.run("c").priority) == (["d", "b", "a", "c"], Priority.NORMAL)
    assert [bench.take() for _ in range(4)] == ["d", "b", "a", "c"]


def test_what_was_moved_to_the_top_comes_before_other_sessions_however_fair_that_is() -> None:
    bench = Bench()
    for name in "ab":
        bench.submit(name)
    bench.take()
    for name in "cd":
        bench.submit(name, session="t")
    assert bench.order(LAB) == ["c", "b", "d"]
    bench.move("b")
    assert bench.order(LAB) == ["b", "c", "d"]
    bench.move("d", before="c")
    assert bench.order(LAB) == ["b", "d", "c"]
    bench.move("d", before="b")
    assert [bench.take() for _ in range(3)] == ["d", "b", "c"]


def test_a_chain_is_moved_as_a_whole() -> None:
    bench = Bench()
    bench.submit("x")
    bench.submit("a", chain="c")
    bench.submit("b", chain="c")
    bench.move("b", before="x")
    assert bench.order(LAB)[:2] == ["a", "x"]
    assert bench.run("b").place is None


def test_several_runs_go_before_all_others_in_the_order_in_which_they_are_named() -> None:
    bench = Bench()
    bench.submit("urgent", priority=Priority.URGENT)
    for name in "abcd":
        bench.submit(name, session="st"[name in "cd"])
    bench.put_first("d", "b", "d")
    assert bench.order(LAB)[:3] == ["d", "b", "urgent"]
    assert bench.run("d").priority is Priority.URGENT
    bench.put_first("a", "urgent")
    assert bench.order(LAB) == ["a", "urgent", "d", "b", "c"]
    bench.put_first()
    assert [bench.take() for _ in range(5)] == ["a", "urgent", "d", "b", "c"]


def test_a_chain_goes_first_as_a_whole() -> None:
    bench = Bench()
    for name, chain in (("x", ""), ("a", "c"), ("b", "c"), ("y", "")):
        bench.submit(name, chain=chain)
    bench.put_first("y", "b", "a")
    assert bench.order(LAB)[:2] == ["y", "a"]
    assert bench.run("b").place is None


def test_if_one_of_several_does_not_wait_there_none_is_put_first() -> None:
    bench = Bench(RACK, GPU)
    a, b, c = bench.submit("a"), bench.submit("b", group="gpu"), bench.submit("c")
    queue = bench.queue.group_queue
    with pytest.raises(NotQueuedError, match=r"expected runs that wait in group rack, got s\.1, which waits in .* gpu"):
        queue.put_first("rack", [c.id, b.id])
    with pytest.raises(NotQueuedError, match=r"got s\.9, which is unknown or over"):
        queue.put_first("rack", [c.id, "s.9"])
    assert bench.order("rack") == ["a", "c"]
    assert bench.run("c").place is None
    queue.put_first("rack", [c.id, a.id])
    assert bench.order("rack") == ["c", "a"]


def test_what_does_not_wait_there_is_not_moved() -> None:
    bench = Bench(RACK, GPU)
    a, b = bench.submit("a"), bench.submit("b", group="gpu")
    bench.submit("c")
    queue = bench.queue.group_queue
    with pytest.raises(
        NotQueuedError, match=r"expected a run of group rack, in which s\.0 waits; s\.1 waits in group gpu"
    ):
        queue.move(a.id, before=b.id)
    with pytest.raises(NotQueuedError, match=r"got s\.9, which is unknown or over"):
        queue.move("s.9")
    bench.take()
    with pytest.raises(NotQueuedError, match=r"expected a run that waits in a queue, got s\.0, which is starting"):
        queue.move(a.id)
    with pytest.raises(NotQueuedError, match=r"got s\.0, which is starting"):
        queue.move(b.id, after=a.id)


def test_moves_into_the_same_gap_never_run_out_of_numbers() -> None:
    bench = Bench()
    names = [f"r{number:03}" for number in range(150)]
    for name in names:
        bench.submit(name)
    for name in names[2:]:
        bench.move(name, after=names[0])
    assert bench.order(LAB) == [names[0], *reversed(names[2:]), names[1]]
    assert [bench.take() for _ in range(150)] == [names[0], *reversed(names[2:]), names[1]]


def test_one_place_up_and_down() -> None:
    bench = Bench()
    for name in "abc":
        bench.submit(name)
    bench.submit("low", priority=Priority.LOW)
    queue = bench.queue.group_queue

    def step(name: str, *, down: bool = False) -> None:
        queue.step(bench.run(name).id, down=down)

    step("c")
    assert bench.order(LAB) == ["a", "c", "b", "low"]
    step("a")
    assert bench.order(LAB) == ["a", "c", "b", "low"], "it is first already"
    step("a", down=True)
    step("low", down=True)
    assert bench.order(LAB) == ["c", "a", "b", "low"]
    step("low")
    assert (bench.order(LAB), bench.run("low").priority) == (["c", "a", "low", "b"], Priority.NORMAL)
    step("b", down=True)
    assert bench.order(LAB) == ["c", "a", "low", "b"]
    assert [queue.place(bench.run(name)) for name in ("c", "a", "low", "b")] == [1, 2, 3, 4]


def test_a_chain_steps_past_others_as_a_whole_and_never_past_itself() -> None:
    bench = Bench()
    for name, chain in (("x", ""), ("a", "c"), ("b", "c"), ("y", "")):
        bench.submit(name, chain=chain)
    queue = bench.queue.group_queue
    queue.step(bench.run("b").id)
    assert bench.order(LAB) == ["a", "x", "b", "y"]
    queue.step(bench.run("a").id, down=True)
    queue.step(bench.run("a").id, down=True)
    assert bench.order(LAB) == ["x", "b", "y", "a"], "its second run does not count"
    queue.step(bench.run("a").id)
    queue.step(bench.run("a").id)
    assert bench.order(LAB)[0] == "a"
    bench.move("a", bottom=True)
    bench.move("b", before="a")
    assert bench.order(LAB) == ["x", "b", "y", "a"]


def test_what_is_at_an_end_already_keeps_its_priority() -> None:
    bench = Bench()
    bench.submit("a", priority=Priority.URGENT)
    bench.submit("b", priority=Priority.LOW)
    bench.move("a")
    bench.move("b", bottom=True)
    assert (bench.run("a").priority, bench.run("b").priority) == (Priority.URGENT, Priority.LOW)
    assert bench.order(LAB) == ["a", "b"]


def test_another_priority_is_that_of_a_run_in_its_sessions_line() -> None:
    bench = Bench()
    for name in "abc":
        bench.submit(name)
    bench.move("c")
    queue = bench.queue.group_queue
    queue.prioritise(bench.run("c").id, Priority.LOW)
    queue.prioritise(bench.run("b").id, Priority.HIGH)
    assert bench.order(LAB) == ["b", "a", "c"]
    queue.prioritise(bench.run("b").id, Priority.NORMAL)
    assert bench.order(LAB) == ["a", "b", "c"], "as it was submitted"
    bench.take()
    with pytest.raises(NotQueuedError, match=r"got s\.0, which is starting"):
        queue.prioritise(bench.run("a").id, Priority.HIGH)


def test_only_the_machine_that_is_wished_for_gets_a_run() -> None:
    bench = Bench()
    options = {"a": RunOptions(only="m2"), "b": RunOptions(avoids="m1")}
    payload = {"media": "efi", "location": "sha256:0", "size": 1}
    wanted = [(name, Workload(name=name, kind=BOOT, payload=payload)) for name in "abc"]
    for run in bench.queue.sessions.submit_all("s", wanted, bench.now, options):
        bench.queue.transitions.has_what_it_needs(run.id, bench.now)
    assert [bench.take(), bench.take(), bench.take()] == ["c", "a", "b"]


def test_what_the_only_machine_for_a_run_lacks_is_said() -> None:
    bench = Bench()
    bench.queue.machines.declare("m1", labels={"arch": "arm"})
    bench.queue.machines.declare("m2", labels={"arch": "x86"})
    payload = {"media": "efi", "location": "sha256:0", "size": 1}
    required = read_requirements(["arch=x86"], "")
    wanted = [(name, Workload(name=name, kind=BOOT, payload=payload, requires=required)) for name in "abc"]
    options = {"a": RunOptions(only="m1"), "b": RunOptions(only="m2"), "c": RunOptions(only="m3")}
    told = [bench.queue.scheduler.lacking(run) for run in bench.queue.sessions.submit_all("s", wanted, 1.0, options)]
    assert told == [
        "it requires arch=x86; the nearest is m1: it has arch=arm, wanted is arch=x86",
        "",
        "only m3 may have it, and the lab has no such one",
    ]


def test_a_machine_to_avoid_gets_a_run_if_there_is_no_other() -> None:
    bench = Bench()
    payload = {"media": "efi", "location": "sha256:0", "size": 1}
    wanted = [("a", Workload(name="a", kind=BOOT, payload=payload))]
    (run,) = bench.queue.sessions.submit_all("s", wanted, bench.now, {"a": RunOptions(avoids="m1")})
    bench.queue.transitions.has_what_it_needs(run.id, bench.now)
    assert bench.take() == "a"


def test_a_page_of_a_queue() -> None:
    bench = Bench()
    for number in range(10):
        bench.submit(f"r{number}")
    page = bench.queue.group_queue.page(LAB, 3, 2)
    assert [record.run.workload.name for record in page] == ["r3", "r4"]


# What a reload does


def test_the_queue_of_a_group_that_is_gone_goes_where_it_now_suits() -> None:
    bench = Bench(GPU, RACK)
    bench.submit("running", "gpu")
    assert bench.take() == "running"
    bench.submit("suits", "gpu")
    bench.submit("names", group="gpu")
    bench.submit("held back", "gpu", ready=False)
    change = bench.queue.group_queue.set([Group(id="new", labels={"gpu": ""}), RACK], bench.now)
    assert (change.added, change.changed, change.gone) == (("new",), (), ("gpu",))
    assert (bench.run("running").group, bench.queue.groups.leaving) == ("gpu", ("gpu",))
    assert (bench.run("suits").group, bench.run("held back").group) == ("new", "new")
    named = bench.run("names")
    assert named.outcome is Outcome.ERROR
    assert "names: the lab has no group 'gpu': expected one of new, rack, lab" in named.reason
    assert bench.take(gpu="") == "suits", "another arch will do now"
    bench.end("running")
    assert bench.queue.groups.leaving == ()


def test_a_retry_in_a_group_that_is_gone_goes_elsewhere() -> None:
    bench = Bench(GPU)
    run = bench.submit("a", "gpu")
    bench.take()
    bench.queue.group_queue.set([], bench.now)
    bench.queue.scheduler.fault("m1", "it burns", bench.now, lab=True)
    again = bench.run("a")
    assert (len(again.attempts), again.group, again.outcome) == (2, LAB, None)
    assert bench.take() == "a"
    assert run.id in bench.queue.transitions.altered, "it is to be journalled"


def test_a_group_that_requires_something_else_sorts_its_queue_anew() -> None:
    bench = Bench(GPU)
    bench.submit("a", "gpu")
    bench.submit("b", group="gpu")
    bench.queue.group_queue.set([Group(id="gpu", labels={"arch": "arm"})], bench.now)
    assert (bench.run("a").group, bench.run("b").group) == (LAB, "gpu")
    assert (bench.take(gpu=""), bench.take(arch="arm")) == ("a", "b")


def test_the_pause_of_a_group_outlives_its_absence() -> None:
    bench = Bench(GPU)
    bench.queue.groups.pause("gpu", Hold(reason="broken fan"), bench.now)
    bench.queue.group_queue.set([], bench.now)
    bench.queue.group_queue.set([GPU], bench.now)
    bench.submit("a", group="gpu")
    assert bench.take() == ""
    assert bench.queue.groups.open_since("gpu") == math.inf


def test_a_machine_that_leaves_ends_what_it_runs_and_takes_nothing_new() -> None:
    bench = Bench()
    bench.submit("a")
    bench.submit("b")
    assert bench.take() == "a"
    machines = bench.queue.machines
    machines["m1"].leave(bench.now)
    assert not machines["m1"].has_left
    assert bench.queue.machine("m1", bench.now).state == "reserved"
    bench.end("a")
    assert machines["m1"].has_left
    capacity = Capacity(kind=BOOT, labels=ALL, machine="m1")
    machines.asks("m1", KnownBy.ADDRESS, bench.now)
    assert bench.queue.scheduler.take(capacity, bench.now) is None
    assert bench.queue.machine("m1", bench.now).reason == "it is not in the lab's configuration any more"
    machines.declare("m1")
    assert bench.queue.scheduler.take(capacity, bench.now) is not None


# Templates


def test_templates_are_found_by_group_and_name() -> None:
    workload = Workload(name="memory", kind=BOOT)
    table = TemplateTable([Template(id="memory", group="rack", workload=workload)])
    assert table.known("rack", "memory").workload is workload
    with pytest.raises(NoTemplateError, match=r"group rack has no template 'memry': did you mean memory\?"):
        table.known("rack", "memry")
    with pytest.raises(NoTemplateError, match="group gpu has no template 'memory': expected one of none"):
        table.known("gpu", "memory")
    with pytest.raises(ConfigError, match="templates: expected each id once, got 'memory' twice"):
        TemplateTable([*table.values(), *table.values()])


def test_the_queue_asks_for_a_group_that_there_is() -> None:
    with pytest.raises(NoGroupError, match=r"the lab has no group 'lap': did you mean lab\?"):
        Bench().queue.group_queue.known("lap")
