"""Bytes that are handed out as they arrive: what machines get of them, and what becomes of it when GitHub fails."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults import fault
from fetching import AT_ONCE, MIB, REPO, STORAGE, arrived, bytes_of, path_told_by, publish, session, sha256, token_of
from labs import FIRMWARE, LITTLE, LabBench, Reply, Wire, gathered, running_lab
from waiting import until

from pytest_dispatch.core.model import Outcome, Policy, Run
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.sources.asset_fetcher import AssetFetcher
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.sources.partial_file import CHANGED
from pytest_dispatch.sources.streamed_asset import HELD, Arrival
from pytest_dispatch.testing.github import FakeGitHub, Gate
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]

SIZE = 3 * MIB
HALF = SIZE // 2
CONTENT = bytes_of(SIZE)
GET = f"GET /dispatch HTTP/1.1\r\n{FIRMWARE}\r\n"
A = "127.0.0.2"
ONCE = Policy(retries=0)
REPORT = b'{"title": "well", "result": "passed"}'


@dataclass
class Lab:
    """A lab that has its workloads from a GitHub."""

    bench: LabBench
    github: FakeGitHub

    async def wants(self, *assets: Bytes) -> list[Run]:
        """Ask for a run of each of these, whose names in turn are a, b, …."""
        workloads = [
            self.bench.workload(f"{chr(97 + n)}.efi", size=asset.size, location=asset.location, digest=asset.digest)
            for n, asset in enumerate(assets)
        ]
        return await self.bench.submit(*workloads, policy=ONCE, ready=False)

    def arrival(self, run: Run) -> Arrival | None:
        asset = self.bench.boot.assets.get(run.id)
        return asset if isinstance(asset, Arrival) else None

    async def arrives(self, run: Run) -> Arrival:
        """Return when machines may have it, though it is not all there."""
        await until(lambda: self.arrival(run))
        arrival = self.arrival(run)
        assert arrival is not None
        return arrival

    async def reads(self, source: str = A, *, more: str = "", receive_buffer: int = 0) -> tuple[Wire, Reply]:
        """A machine asks for its bytes, and has the head of the answer."""
        wire = await self.bench.wire(source, receive_buffer=receive_buffer)
        await wire.send(GET.replace("\r\n\r\n", f"\r\n{more}\r\n\r\n" if more else "\r\n\r\n"))
        return wire, await wire.head()

    async def all_read(self, runs: list[Run], receive_buffer: int = 0) -> list[Wire]:
        """A machine for each run begins to read it, as soon as it may."""
        wires = []
        for number, run in enumerate(runs):
            await self.arrives(run)
            wires.append((await self.reads(f"127.0.0.{10 + number}", receive_buffer=receive_buffer))[0])
        return wires

    async def passes(self, run: Run, source: str = A) -> None:
        """The workload boots there and reports."""
        await self.bench.enters(run, State.DOWNLOADED)
        assert (await self.bench.call("POST", source=source)).status == 200
        assert (await self.bench.call("PUT", source=source, body=REPORT)).status == 200
        await self.bench.call("HEAD", source=source)
        assert self.bench.now(run).outcome is Outcome.PASSED

    async def fails(self, run: Run) -> str:
        """Return why, when the run has ended as the lab's error."""
        await until(lambda: self.bench.now(run).outcome is not None)
        assert self.bench.now(run).outcome is Outcome.ERROR
        return self.bench.now(run).reason


@asynccontextmanager
async def lab_of(
    github: FakeGitHub, folder: Path, token: Token | None = None, *, private: bool = True
) -> AsyncIterator[Lab]:
    """A lab whose journal is in `folder`, and its cache beside it."""
    await asyncio.to_thread(folder.mkdir)

    def store(_path: Path) -> AssetFetcher:
        return AssetFetcher(folder.parent / "cache", 10**9, token, patience=AT_ONCE)

    async with running_lab(folder, cache=store, apis=(github.url,), private=private) as bench:
        yield Lab(bench, github)


@pytest.fixture
async def lab(github: FakeGitHub, tmp_path: Path) -> AsyncIterator[Lab]:
    async with lab_of(github, tmp_path / "lab") as running:
        yield running


@pytest.fixture(params=[True, False], ids=["private", "shared"])
async def any_lab(github: FakeGitHub, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """One of a pytest alone, and one of several sessions that may not see each other's bytes."""
    async with lab_of(github, tmp_path / "lab", private=request.param) as running:
        yield running


def held_up(github: FakeGitHub, *, after: int = HALF, **options: Any) -> Gate:
    """GitHub stops after so many bytes, until the gate is opened."""
    gate = Gate()
    github.fail_next(f"{STORAGE}/*.efi", gate=gate, after=after, **options)
    return gate


async def test_a_machine_reads_what_is_there_and_the_rest_as_it_comes(any_lab: Lab) -> None:
    asset = publish(any_lab.github, {"w.efi": CONTENT})["w.efi"]
    gate = held_up(any_lab.github)
    [run] = await any_lab.wants(asset)
    await any_lab.arrives(run)
    head = await any_lab.bench.call("HEAD")
    assert (head.status, head.headers["content-length"]) == (200, str(SIZE))
    wire, answer = await any_lab.reads()
    assert answer.headers == {**head.headers, "date": answer.headers["date"]}
    assert await wire.take(HALF) == CONTENT[:HALF]
    assert any_lab.bench.attempt(run).state == State.DOWNLOADING
    gate.open()
    assert await wire.take(SIZE - HALF) == CONTENT[HALF:]
    await any_lab.passes(run)
    assert (any_lab.github.downloads, any_lab.github.bytes_served) == ({"w.efi": 1}, SIZE)
    assert any_lab.bench.lab.lab_state.digest_of(run) == sha256(CONTENT)


async def test_many_machines_read_what_is_downloaded_once(any_lab: Lab) -> None:
    """Each has a run of its own of the same asset; the slowest, which reads nothing, holds up no other."""
    asset = publish(any_lab.github, {"w.efi": CONTENT})["w.efi"]
    gate = held_up(any_lab.github)
    runs = await any_lab.wants(*[asset] * 8)
    slow, *others = await any_lab.all_read(runs, receive_buffer=LITTLE)
    gate.open()
    bodies = await gathered(*(wire.take(SIZE) for wire in others))
    assert bodies == [CONTENT] * 7
    assert await slow.take(SIZE) == CONTENT
    for run in runs:
        await any_lab.bench.enters(run, State.DOWNLOADED)
    assert any_lab.github.downloads == {"w.efi": 1}


async def test_what_machines_read_holds_back_no_further_download(lab: Lab) -> None:
    """Each of eight machines reads another asset; no more than three are fetched ahead of them."""
    contents = {f"{n}.efi": bytes_of(SIZE, str(n)) for n in range(8)}
    assets = publish(lab.github, contents)
    gates = [held_up(lab.github) for _ in contents]
    runs = await lab.wants(*assets.values())
    wires = []
    for n, run in enumerate(runs):
        await lab.arrives(run)
        assert sum(lab.arrival(each) is not None for each in runs) <= n + 3
        wires.append((await lab.reads(f"127.0.0.{10 + n}"))[0])
    for gate in gates:
        gate.open()
    assert await gathered(*(wire.take(SIZE) for wire in wires)) == list(contents.values())


async def test_each_run_that_is_ready_goes_to_the_machine_that_has_waited_longest(lab: Lab) -> None:
    """And wakes that one alone: the others go on waiting."""
    assets = publish(lab.github, {f"{n}.efi": b"MZ %d" % n for n in range(3)})
    gates = [lab.github.hold_next(f"{STORAGE}/{name}") for name in assets]
    runs = await lab.wants(*assets.values())
    lab.bench.clock.ahead += 1000.0  # nobody waits for others to line up
    waiting = []
    for number in range(3):
        waiting.append(asyncio.create_task(lab.bench.call("HEAD", source=f"127.0.0.{10 + number}")))
        await until(lambda number=number: lab.bench.boot.requests.waiting == number + 1)  # type: ignore[misc]
        lab.bench.clock.ahead -= 100.0  # nor does any lose patience
    for number in range(3):
        gates[number].open()
        reply = await waiting[number]
        assert reply.headers["dispatch-workload"] == runs[number].workload.name
        assert lab.bench.boot.requests.waiting == 2 - number


async def test_parts_of_what_arrives(lab: Lab) -> None:
    """What is there, and what is not there yet; all of them make up a download."""
    asset = publish(lab.github, {"w.efi": CONTENT})["w.efi"]
    gate = held_up(lab.github)
    [run] = await lab.wants(asset)
    await lab.arrives(run)
    wire, answer = await lab.reads(more="Range: bytes=0-99999")
    assert (answer.status, answer.headers["content-range"]) == (206, f"bytes 0-99999/{SIZE}")
    assert await wire.take(100_000) == CONTENT[:100_000]
    tag = answer.headers["etag"]
    last, answer = await lab.reads(more=f"Range: bytes=2000000-\r\nIf-Range: {tag}")
    assert answer.headers["content-range"] == f"bytes 2000000-{SIZE - 1}/{SIZE}"
    gate.open()
    assert await last.take(SIZE - 2_000_000) == CONTENT[2_000_000:]
    await until(lambda: lab.arrival(run) is None)
    middle, answer = await lab.reads(more=f"Range: bytes=100000-1999999\r\nIf-Range: {tag}")
    assert answer.status == 206
    assert await middle.take(1_900_000) == CONTENT[100_000:2_000_000]
    await lab.passes(run)


async def test_a_machine_that_breaks_off_goes_on_while_it_arrives(lab: Lab) -> None:
    asset = publish(lab.github, {"w.efi": CONTENT})["w.efi"]
    gate = held_up(lab.github)
    [run] = await lab.wants(asset)
    await lab.arrives(run)
    wire, answer = await lab.reads()
    await wire.take(1000)
    wire.reset()
    await until(lambda: lab.bench.attempt(run).counts.get("break", 0))
    wire, rest = await lab.reads(more=f"Range: bytes=1000-\r\nIf-Range: {answer.headers['etag']}")
    assert rest.status == 206
    gate.open()
    assert await wire.take(SIZE - 1000) == CONTENT[1000:]
    await lab.passes(run)


@fault(
    "GitHub",
    "the last byte of an asset is wrong while eight machines read it",
    outcome="`error`; none of them gets the last 64 KiB, nothing is kept",
    told=f"`expected sha256:…, got sha256:…: {CHANGED}`; not tried again",
)
async def test_a_wrong_digest(any_lab: Lab, tmp_path: Path) -> None:
    asset = publish(any_lab.github, {"w.efi": CONTENT})["w.efi"]
    any_lab.github.asset(REPO, "v1", "w.efi").content = CONTENT[:-1] + b"\0"
    gate = held_up(any_lab.github)
    runs = await any_lab.wants(*[asset] * 8)
    wires = await any_lab.all_read(runs)
    gate.open()
    bodies = await gathered(*(all_of(wire) for wire in wires))
    assert all(CONTENT[: SIZE - HELD].startswith(body) for body in bodies)
    for number, run in enumerate(runs):
        reason = await any_lab.fails(run)
        assert reason.startswith(f"127.0.0.{10 + number}: ")
        assert reason.endswith(f": {CHANGED} during the download")
    assert not list((tmp_path / "cache" / "sha256").iterdir())
    assert any_lab.github.downloads == {"w.efi": 1}


async def all_of(wire: Wire) -> bytes:
    """All that comes until the connection is broken."""
    data = b""
    try:
        while piece := await wire.receive():
            data += piece
    except ConnectionResetError:
        pass
    return data


@fault(
    "GitHub",
    "a download is cut while a machine reads it",
    outcome="unchanged; the machine's own goes on, and gets each byte once",
    told="nothing",
)
async def test_a_cut_is_not_seen_by_the_machine(lab: Lab) -> None:
    asset = publish(lab.github, {"w.efi": CONTENT})["w.efi"]
    gate = held_up(lab.github, drop=True)
    [run] = await lab.wants(asset)
    await lab.arrives(run)
    wire, _ = await lab.reads()
    gate.open()
    assert await wire.take(SIZE) == CONTENT
    await lab.passes(run)
    assert (lab.github.downloads, lab.github.bytes_served) == ({"w.efi": 2}, SIZE)


@fault(
    "GitHub",
    "an asset is changed while a machine reads it",
    outcome="`error`, or where the release tells no digest: the machine gets the new one, whole; never a mixture",
    told=f"`expected sha256:…, got sha256:…: {CHANGED}`; without a digest nothing",
)
@pytest.mark.parametrize("digests", [True, False])
async def test_an_asset_that_changes_under_way(lab: Lab, digests: bool) -> None:
    asset = publish(lab.github, {"w.efi": CONTENT}, digests=digests)["w.efi"]
    gate = held_up(lab.github, drop=True)
    [run] = await lab.wants(asset)
    await lab.arrives(run)
    wire, old = await lab.reads()
    assert await wire.take(HALF) == CONTENT[:HALF]
    new = bytes_of(SIZE, "new")
    lab.github.asset(REPO, "v1", "w.efi").content = new
    again = held_up(lab.github)  # the next download, which is of the new bytes
    gate.open()
    assert await all_of(wire) == b""
    await until(lambda: (found := lab.arrival(run)) is not None and f'"{found.tag}"' != old.headers["etag"])
    for more in ("Range: bytes=1000-", f"Range: bytes=1000-\r\nIf-Range: {old.headers['etag']}"):
        wire, answer = await lab.reads(more=more)
        assert answer.status == 200
        assert await wire.take(1000) == new[:1000]
    again.open()
    if digests:
        assert new[1000 : SIZE - HELD].startswith(await all_of(wire))
        assert CHANGED in await lab.fails(run)
    else:
        assert await wire.take(SIZE - 1000) == new[1000:]
        await lab.passes(run)


@fault(
    "GitHub",
    "GitHub sends nothing more while a machine reads",
    outcome="unchanged: the machine gets `wait` until there is more",
    told="nothing",
)
async def test_a_stall(lab: Lab) -> None:
    asset = publish(lab.github, {"w.efi": CONTENT})["w.efi"]
    gate = held_up(lab.github)
    [run] = await lab.wants(asset)
    arrival = await lab.arrives(run)
    wire, _ = await lab.reads()
    await wire.take(HALF)
    await until(arrival.is_late)
    wire.reset()  # as firmware does when nothing came for a while
    assert await idle_of(lab) == "wait"
    assert lab.bench.attempt(run).state == State.DOWNLOADING
    assert not lab.bench.attempt(run).counts.get("break", 0)  # it was not its link
    gate.open()
    await until(lambda: not arrival.is_late())
    assert (await lab.bench.call("HEAD")).headers["content-length"] == str(SIZE)
    assert (await lab.bench.call("GET")).body == CONTENT
    await lab.passes(run)


async def idle_of(lab: Lab) -> str:
    """Which idle program a machine gets that is not patient; empty if it gets a workload."""
    asking = asyncio.create_task(lab.bench.call("HEAD"))
    await until(lambda: asking.done() or lab.bench.boot.requests.waiting)
    lab.bench.clock.ahead += 10.0
    return (await asking).headers.get("dispatch-idle", "")


@fault(
    "GitHub",
    "an asset comes a byte at a time",
    outcome="unchanged: it is fetched ahead, and machines get `wait` until it is there",
    told="nothing",
)
@pytest.mark.parametrize("after", [0, 1000])
async def test_what_trickles_in_is_not_handed_out(lab: Lab, after: int) -> None:
    content = CONTENT[: after + 400]
    asset = publish(lab.github, {"w.efi": content})["w.efi"]
    lab.github.fail_next(f"{STORAGE}/w.efi", trickle=0.005, after=after)
    [run] = await lab.wants(asset)
    await until(lambda: lab.github.bytes_served > after)
    assert await idle_of(lab) == "wait"
    assert lab.arrival(run) is None
    await until(lambda: run.id in lab.bench.boot.assets)
    assert (await lab.bench.call("HEAD")).headers["content-length"] == str(len(content))
    assert (await lab.bench.call("GET")).body == content
    await lab.passes(run)


async def test_what_begins_well_and_then_trickles(lab: Lab) -> None:
    """Who asks from then on is told to wait."""
    asset = publish(lab.github, {"w.efi": CONTENT})["w.efi"]
    lab.github.fail_next(f"{STORAGE}/w.efi", trickle=0.05, after=HALF)
    [run] = await lab.wants(asset)
    arrival = await lab.arrives(run)
    await until(arrival.is_late)
    assert await idle_of(lab) == "wait"


@fault(
    "GitHub",
    "a release tells a wrong size of an asset",
    outcome="`error`; no machine gets a byte of it",
    told=f"`expected 8 bytes, … has 9: {CHANGED}`; not tried again",
)
@pytest.mark.parametrize("told", [SIZE - 1, SIZE + 1])
async def test_a_lie_about_the_size(lab: Lab, told: int) -> None:
    [asset] = publish(lab.github, {"w.efi": CONTENT}).values()
    [run] = await lab.wants(Bytes(name="w.efi", location=asset.location, size=told, digest=asset.digest))
    assert await lab.fails(run) == f"a.efi: expected {told} bytes, 127.0.0.2 has {SIZE}: {CHANGED}"
    assert lab.bench.attempt(run).state == State.FAILED


async def test_an_asset_without_a_digest(any_lab: Lab, tmp_path: Path) -> None:
    """Only its size is known before; of what was run the journal has the digest."""
    asset = publish(any_lab.github, {"w.efi": CONTENT}, digests=False)["w.efi"]
    gate = held_up(any_lab.github)
    [run] = await any_lab.wants(asset)
    await any_lab.arrives(run)
    wire, _ = await any_lab.reads()
    gate.open()
    assert await wire.take(SIZE) == CONTENT
    await any_lab.passes(run)
    assert any_lab.bench.lab.lab_state.digest_of(run) == sha256(CONTENT)
    await any_lab.bench.lab.lab_state.on_disk()
    assert any_lab.bench.journal.reader.served(run.session) == {run.id: sha256(CONTENT)}


async def test_a_private_asset(github: FakeGitHub, tmp_path: Path) -> None:
    asset = publish(github, {"w.efi": CONTENT}, private=True)["w.efi"]
    async with lab_of(github, tmp_path / "lab", token_of(github)) as lab:
        gate = held_up(github)
        [run] = await lab.wants(asset)
        await lab.arrives(run)
        wire, _ = await lab.reads()
        gate.open()
        assert await wire.take(SIZE) == CONTENT
        await lab.passes(run)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The system takes no more bytes of a file than these, as from a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@fault(
    "The disk",
    "the disk of the cache takes no more while a machine reads what arrives",
    outcome="`error`; the machine's download breaks off",
    told="what the system says, and the file",
)
async def test_a_disk_that_takes_no_more(lab: Lab) -> None:
    asset = publish(lab.github, {"w.efi": CONTENT})["w.efi"]
    gate = held_up(lab.github)
    [run] = await lab.wants(asset)
    await lab.arrives(run)
    wire, _ = await lab.reads()
    with no_file_larger_than(2 * MIB):
        gate.open()
        assert len(await all_of(wire)) <= 2 * MIB
        reason = await lab.fails(run)
    assert reason.startswith(f"{A}: a.efi: File too large")
    assert reason.endswith("during the download")


@fault(
    "Crashes",
    "the lab is killed in the middle of a download",
    outcome="unchanged with `--dispatch-resume`; the download goes on where it was",
    told="nothing",
)
@pytest.mark.parametrize("digests", [True, False])
async def test_a_lab_that_was_killed_goes_on(github: FakeGitHub, tmp_path: Path, digests: bool) -> None:
    asset = publish(github, {"w.efi": CONTENT}, digests=digests)["w.efi"]
    gate = held_up(github)
    with session(tmp_path, asset) as killed:
        await arrived(gate.wait)
        await until(lambda: [path for path in partials(tmp_path) if path.stat().st_size == HALF])
        killed.kill()
    gate.open()
    after = held_up(github, after=MIB)
    async with lab_of(github, tmp_path / "lab") as lab:
        [run] = await lab.wants(asset)
        await lab.arrives(run)
        wire, _ = await lab.reads()
        assert await wire.take(HALF + MIB - HELD) == CONTENT[: HALF + MIB - HELD]
        after.open()
        assert await wire.take(SIZE - HALF - MIB + HELD) == CONTENT[HALF + MIB - HELD :]
        await lab.passes(run)
    assert github.downloads == {"w.efi": 2}


def partials(folder: Path) -> list[Path]:
    return list((folder / "cache" / "partial").glob("?" * 64))


async def test_what_a_killed_lab_left_and_is_wrong_is_given_to_nobody_whole(github: FakeGitHub, tmp_path: Path) -> None:
    """The machine is cut off when that shows, and gets the right bytes, all of them, when it asks again."""
    asset = publish(github, {"w.efi": CONTENT})["w.efi"]
    (tmp_path / "cache" / "partial").mkdir(parents=True)
    wrong = bytes(HALF)
    (tmp_path / "cache" / "partial" / asset.digest.removeprefix("sha256:")).write_bytes(wrong)
    gate = held_up(github, after=MIB)
    async with lab_of(github, tmp_path / "lab") as lab:
        [run] = await lab.wants(asset)
        await lab.arrives(run)
        wire, _ = await lab.reads()
        assert await wire.take(HALF) == wrong
        gate.open()
        assert len(await all_of(wire)) <= SIZE - HALF - HELD
        await until(lambda: lab.bench.lab.lab_state.digests.get(run.id))
        assert not lab.bench.attempt(run).counts.get("break", 0)  # it was not its link
        wire, answer = await lab.reads(more=f"Range: bytes={HALF}-")
        assert answer.status == 200
        assert await wire.take(SIZE) == CONTENT
        await lab.passes(run)


@fault(
    "GitHub",
    "two labs with one cache need the same asset at the same time",
    outcome="unchanged; it is downloaded once, machines of the other lab get `wait` until it is there",
    told="nothing",
)
async def test_two_labs_and_one_download(github: FakeGitHub, tmp_path: Path) -> None:
    asset = publish(github, {"w.efi": CONTENT})["w.efi"]
    gate = held_up(github)
    async with lab_of(github, tmp_path / "one") as one, lab_of(github, tmp_path / "two") as two:
        [first] = await one.wants(asset)
        await one.arrives(first)
        [second] = await two.wants(asset)
        wire, _ = await one.reads()
        assert await idle_of(two) == "wait"
        gate.open()
        assert await wire.take(SIZE) == CONTENT
        await until(lambda: second.id in two.bench.boot.assets)
        await two.bench.call("HEAD")
        assert (await two.bench.call("GET")).body == CONTENT
        await one.passes(first)
        await two.passes(second)
    assert github.downloads == {"w.efi": 1}


async def test_another_process_and_one_download(github: FakeGitHub, tmp_path: Path) -> None:
    asset = publish(github, {"w.efi": CONTENT})["w.efi"]
    gate = held_up(github)
    with session(tmp_path, asset) as other:
        await arrived(gate.wait)
        async with lab_of(github, tmp_path / "lab") as lab:
            [run] = await lab.wants(asset)
            gate.open()
            await until(lambda: run.id in lab.bench.boot.assets)
            assert (await lab.bench.call("GET")).body == CONTENT
            await lab.passes(run)
        assert (await asyncio.to_thread(path_told_by, other)).exists()
        other.kill()
    assert github.downloads == {"w.efi": 1}


async def test_a_lab_that_stops_breaks_off(github: FakeGitHub, tmp_path: Path) -> None:
    asset = publish(github, {"w.efi": CONTENT})["w.efi"]
    gate = held_up(github)
    async with lab_of(github, tmp_path / "lab") as lab:
        [run] = await lab.wants(asset)
        arrival = await lab.arrives(run)
        wire = await Wire.open(lab.bench.port, A)
        await wire.send(GET)
        await wire.head()
        await wire.take(HALF)
    assert arrival.error
    assert await all_of(wire) == b""
    wire.close()
    gate.open()
