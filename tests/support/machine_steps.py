"""What a machine does step by step, and another one that boots undisturbed meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from by_hand import ByHand
from labs import FIRMWARE, LabBench, Wire
from waiting import until

from pytest_dispatch.core.model import Outcome, Policy, Run
from pytest_dispatch.workloads.boot.lifecycle import State

BIG = 2**20
GET = f"GET /dispatch HTTP/1.1\r\n{FIRMWARE}\r\n"
A, OTHER, HOSTILE = "127.0.0.2", "127.0.0.77", "127.0.0.66"
ONCE = Policy(retries=0)
NOTHING = "nothing: it is no fault"
REPORT = b'{"title": "well", "result": "passed"}'

#: What is told to whom uses a boot URL of before.
SAID = "this boot URL is of an earlier boot: the machine has another one for each"

numbers = count()


async def another_passes(bench: LabBench) -> None:
    """Another machine boots and reports, undisturbed."""
    run = await bench.one(name=f"other-{next(numbers)}.efi", policy=ONCE)
    assert (await bench.call("HEAD", source=OTHER)).headers["dispatch-workload"] == run.workload.name
    await bench.download(run, OTHER)
    assert (await bench.call("POST", source=OTHER)).status == 200
    assert (await bench.call("PUT", source=OTHER, body=REPORT)).status == 200
    await bench.call("HEAD", source=OTHER)
    assert bench.now(run).outcome is Outcome.PASSED
    assert [attempt.machine for attempt in bench.now(run).attempts] == [OTHER]


async def passes(bench: LabBench, run: Run, target: str = "/dispatch", source: str = A) -> None:
    """The machine takes its workload, which boots and reports."""
    assert (await bench.call("GET", target, source=source)).body == bench.bytes_of(run)
    await bench.enters(run, State.DOWNLOADED)
    await reports(bench, run, target, source)


async def reports(bench: LabBench, run: Run, target: str = "/dispatch", source: str = A) -> None:
    """The workload that the machine has boots and reports."""
    assert (await bench.call("POST", target, source=source)).status == 200
    assert (await bench.call("PUT", target, source=source, body=REPORT)).status == 200
    await bench.call("HEAD", target, source=source)
    assert bench.now(run).outcome is Outcome.PASSED


def ended(bench: LabBench, run: Run) -> tuple[Outcome | None, str]:
    return bench.now(run).outcome, bench.now(run).reason


async def time_passes(bench: LabBench, seconds: float, run: Run) -> None:
    """As far as the run is concerned; the other machines are done."""
    bench.clock.ahead += seconds
    await until(lambda: bench.now(run).outcome is not None)


async def reaches(value: Callable[[], int], least: int) -> None:
    await until(lambda: value() >= least)


async def is_refused(bench: LabBench, target: str, *methods: str) -> None:
    for method in methods:
        reply = await bench.call(method, target)
        assert reply.status == 403, method
        assert reply.text == ("" if method == "HEAD" else f"{SAID}\n")


async def downloads_once(bench: LabBench, target: str, run: Run) -> None:
    assert (await bench.call("GET", target)).body == bench.bytes_of(run)
    await bench.enters(run, State.DOWNLOADED)


async def says_that_it_runs(bench: LabBench, target: str, run: Run) -> None:
    await downloads_once(bench, target, run)
    assert (await bench.call("POST", target)).status == 200


async def on(*towers: ByHand) -> None:
    await until(lambda: all(tower.alive for tower in towers))


async def begun_report(bench: LabBench, source: str, target: str = "/dispatch") -> Wire:
    """A report of which the server has read the head."""
    wire, before = await bench.wire(source), bench.server.connections.in_use
    await wire.send(f"PUT {target} HTTP/1.1\r\n{FIRMWARE}Content-Length: {len(REPORT)}\r\n\r\n")
    await until(lambda: bench.server.connections.in_use > before)
    return wire
