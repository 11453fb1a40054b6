"""`sim` machines against a small server that records what arrives."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count, groupby
from pathlib import Path

import pytest
from aiohttp import web
from waiting import until

from pytest_dispatch.core.errors import ConfigError, MachineError
from pytest_dispatch.machines.base import DrivenMachine, Factory, Power, Sign, Spec
from pytest_dispatch.machines.console import KEPT
from pytest_dispatch.machines.sim.driver import TRIES, SimMachine, create
from pytest_dispatch.machines.sim.scenarios import LOOK, SCENARIOS, Scenario, Stage, named_in
from pytest_dispatch.machines.sim.uefi_client import Answer, BadAnswerError, Target

pytestmark = pytest.mark.anyio

SECRET = "s3cret"


@dataclass(frozen=True)
class Offer:
    """What the server answers to HEAD and GET."""

    headers: Mapping[str, str] = field(default_factory=dict)
    size: int = 3000
    media: str = "application/efi"
    status: int = 200
    get: Mapping[str, str] = field(default_factory=dict)  # header that GET alone has
    get_size: int | None = None
    begin: bytes = b""


def play(scenario: str, workload: str = "workload-7.efi", size: int = 3000) -> Offer:
    return Offer({"Dispatch-Workload": workload}, size, begin=f"MZ\nsim: {scenario}\n".encode())


OFF = Offer({"Dispatch-Idle": "poweroff"}, size=512)


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    peer: tuple[str, int]

    @property
    def json(self) -> dict[str, object]:
        report: dict[str, object] = json.loads(self.body)
        return report


class LabSession:
    """A server that plays a plan: each HEAD takes the next offer of it, after the last one power-off."""

    def __init__(self, *plan: Offer) -> None:
        self.plan = list(plan)
        self.offers: dict[tuple[str, int], Offer] = {}
        self.offer = OFF  # what was offered last, for a GET over another connection
        self.seen: list[Seen] = []
        self.broken: list[int] = []
        self.taken: list[int] = []
        self.refusals: dict[str, list[int]] = {}
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dispatch?machine={SECRET}"

    @property
    def methods(self) -> str:
        return " ".join(seen.method for seen in self.seen)

    def of(self, method: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        raw = [(name.decode(), value.decode()) for name, value in request.raw_headers]
        peer = request.transport.get_extra_info("peername")[:2]
        self.seen.append(Seen(request.method, request.path_qs, raw, await request.read(), peer))
        if request.method in ("POST", "PUT"):
            refusals = self.refusals.get(request.method)
            return web.Response(status=refusals.pop(0) if refusals else 200, text="as asked")
        if request.method == "HEAD":
            self.offer = self.offers[peer] = self.plan.pop(0) if self.plan else OFF
        return await self.send(request, self.offers.get(peer, self.offer))

    async def send(self, request: web.Request, offer: Offer) -> web.StreamResponse:
        headers = {"Content-Type": offer.media, **offer.headers}
        size = offer.size
        if request.method == "GET":
            headers = {**headers, **offer.get}
            size = offer.size if offer.get_size is None else offer.get_size
        answer = web.StreamResponse(status=offer.status, headers=headers)
        answer.content_length = size
        await answer.prepare(request)
        sent = 0
        try:
            while request.method == "GET" and sent < size:
                piece = (b"" if sent else offer.begin).ljust(min(65536, size - sent), b"\0")
                await answer.write(piece)
                sent += len(piece)
        except ConnectionError:
            self.broken.append(sent)
            return answer
        if request.method == "GET":
            self.taken.append(sent)
        await answer.write_eof()
        return answer

    @asynccontextmanager
    async def open(self, port: int = 0) -> AsyncIterator[LabSession]:
        app = web.Application()
        app.router.add_route("*", "/dispatch", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


class Console:
    """Reads a machine's console for as long as a test lasts."""

    def __init__(self, machine: SimMachine) -> None:
        self.signs: list[Sign] = []
        self._task = asyncio.create_task(self._read(machine))

    async def _read(self, machine: SimMachine) -> None:
        async for sign in machine.console.read():
            self.signs.append(sign)

    @property
    def text(self) -> str:
        return "\n".join(sign.text for sign in self.signs)

    @property
    def faults(self) -> list[str]:
        assert all(sign.lab for sign in self.signs if sign.fault)
        return [sign.fault for sign in self.signs if sign.fault]

    async def wait_for(self, text: str) -> None:
        await until(lambda: text in self.text)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@asynccontextmanager
async def lived(machine: SimMachine, url: str | Callable[[], str]) -> AsyncIterator[Console]:
    """A machine that is started, and stopped in the end."""
    console = Console(machine)
    try:
        await machine.boot_from(url if callable(url) else lambda: url)
        await machine.on()
        yield console
    finally:
        await machine.off()
        await console.close()


async def off(machine: SimMachine) -> None:
    async with asyncio.timeout(60):
        await machine.until_off()
    await asyncio.sleep(0.002)  # its reader takes the last lines


@asynccontextmanager
async def raw_server(*answers: bytes) -> AsyncIterator[str]:
    """A server that answers the requests of each connection with these bytes, then closes; silent without."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
            if not answers:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dispatch"


def quick(**kwargs: object) -> SimMachine:
    return SimMachine(**{"pace": 0.0005, "boot": 0.0, **kwargs})  # type: ignore[arg-type]  # a test's kwargs


async def live_through(lab_session: LabSession, **kwargs: object) -> Console:
    """Run a machine until it powers off, and give its console."""
    machine = quick(**kwargs)
    async with lab_session.open(), lived(machine, lab_session.url) as console:
        await off(machine)
    return console


async def test_it_asks_as_firmware_does() -> None:
    lab_session = LabSession(play("pass"))
    await live_through(lab_session)
    head, get = lab_session.seen[:2]
    expected = [("Host", "127.0.0.1"), ("Accept", "*/*"), ("User-Agent", "UefiHttpBoot/1.0")]
    assert head.headers == get.headers == expected
    assert head.path == get.path == f"/dispatch?machine={SECRET}"
    assert (head.method, get.method) == ("HEAD", "GET")
    assert head.peer == get.peer, "one connection"
    assert head.body == get.body == b""


@pytest.mark.parametrize(
    ("scenario", "heads", "methods"),
    [
        ("pass", 1, "HEAD GET POST PUT"),
        ("fail", 1, "HEAD GET POST PUT"),
        ("no-boot", 3, "HEAD GET HEAD GET HEAD GET"),
        ("come-back", 1, "HEAD GET POST"),
        ("multi-report", 1, "HEAD GET POST PUT PUT PUT"),
        ("slow", 1, "HEAD GET POST PUT"),
        ("duplicate", 1, "HEAD GET POST POST PUT PUT"),
        ("drop-download", 2, "HEAD GET HEAD GET POST PUT"),
    ],
)
async def test_each_scenario_says_what_its_name_promises(scenario: str, heads: int, methods: str) -> None:
    lab_session = LabSession(*[play(scenario)] * heads)
    console = await live_through(lab_session)
    assert lab_session.methods == f"{methods} HEAD GET", "and then it took the power-off program"
    assert console.faults == []


async def test_every_scenario_is_tried_here() -> None:
    assert set(SCENARIOS) == {
        *("pass", "fail", "no-boot", "hang", "drop-download"),
        *("come-back", "multi-report", "slow", "duplicate"),
    }


async def test_pass_is_what_an_answer_without_a_scenario_gets() -> None:
    lab_session = LabSession(Offer())
    await live_through(lab_session)
    [report] = lab_session.of("PUT")
    assert (report.json["title"], report.json["result"]) == ("workload", "passed")


async def test_what_names_none_plays_what_its_machine_was_told(tmp_path: Path) -> None:
    lab_session = LabSession(Offer(), play("pass"))
    [machine] = create(spec("sim", pace="0.0005", boot="0", play="fail"), tmp_path)
    async with lab_session.open():
        await (await powered_on(machine, lab_session.url)).until_off()
    assert [report.json["result"] for report in lab_session.of("PUT")] == ["failed", "passed"]


@pytest.mark.parametrize(
    ("program", "scenario"),
    [
        (b"sim: fail", "fail"),
        (b"sim: fail\n", "fail"),
        (b"# a text\r\nsim:hang\r\n", "hang"),
        (b"MZ\0\x90sim: no\0\0sim: no-boot\0\xff", "no-boot"),
        (b"sim: fail\nsim: pass\n", "fail"),
        (b"sim: \xc3\xa4\n", ""),
        (b"sim: a scenario\n", ""),
        (b"my sim: fail\n", ""),
        (b"sim: " + b"x" * 41, ""),
        (b"", ""),
    ],
)
def test_a_workload_names_its_scenario_by_a_line(program: bytes, scenario: str) -> None:
    assert named_in(program) == scenario


async def test_what_names_its_scenario_late_names_none() -> None:
    lab_session = LabSession(Offer(size=LOOK + 100, begin=b"\n".rjust(LOOK, b"\0") + b"sim: fail\n"))
    await live_through(lab_session)
    [report] = lab_session.of("PUT")
    assert report.json["result"] == "passed"


async def test_a_pass_reports_two_passed_cases() -> None:
    lab_session = LabSession(play("pass", "work%20load%C3%A9.efi"))
    await live_through(lab_session)
    [report] = lab_session.of("PUT")
    assert report.json["title"] == "work loadé.efi"
    assert report.json["cases"] == [
        {"name": name, "outcome": "passed", "duration": 0.25} for name in ("memory", "network")
    ]
    assert ("Content-Type", "application/json") in report.headers
    [boot] = lab_session.of("POST")
    assert boot.body == b""


async def test_a_failure_reports_a_case_with_its_message() -> None:
    lab_session = LabSession(play("fail"))
    await live_through(lab_session)
    [report] = lab_session.of("PUT")
    assert report.json["result"] == "failed"
    message = "expected 4 memory channels, found 3"
    assert report.json["cases"] == [{"name": "memory", "outcome": "failed", "duration": 0.25, "message": message}]


async def test_the_second_of_several_reports_certifies() -> None:
    lab_session = LabSession(play("multi-report"))
    await live_through(lab_session)
    first, second, third = (report.json for report in lab_session.of("PUT"))
    assert second["labels"] == ["certificate", "os-debian-12", "proc-milan"]
    assert second["milestone"] == "c1.2.3-4"
    assert "milestone" not in first
    assert len({first["title"], second["title"], third["title"]}) == 3


async def test_duplicates_are_identical() -> None:
    lab_session = LabSession(play("duplicate"))
    await live_through(lab_session)
    first, second = lab_session.of("PUT")
    assert first.body == second.body


async def test_a_dropped_download_breaks_off_and_starts_again() -> None:
    size = 32 << 20
    lab_session = LabSession(play("drop-download", size=size), play("drop-download", size=size))
    await live_through(lab_session)
    [broken] = lab_session.broken
    assert broken < size
    assert lab_session.taken == [size, OFF.size], "the second time all of it, then the power-off program"


async def test_it_drops_again_when_the_workload_comes_again_after_it_passed() -> None:
    offer = play("drop-download")
    lab_session = LabSession(offer, offer, offer, offer)
    await live_through(lab_session)
    assert lab_session.methods == "HEAD GET HEAD GET POST PUT " * 2 + "HEAD GET"


async def test_a_hang_is_silent_until_it_is_stopped_and_then_started() -> None:
    lab_session = LabSession(play("hang"))
    machine = quick()
    async with lab_session.open(), lived(machine, lab_session.url) as console:
        await console.wait_for("workload-7.efi: memory:")
        await machine.off()
        await machine.until_off()
        assert lab_session.methods == "HEAD GET POST"
        await machine.on()
        await off(machine)
    assert lab_session.methods == "HEAD GET POST HEAD GET"


async def test_a_slow_machine_takes_its_bytes_in_twenty_pieces() -> None:
    lab_session = LabSession(play("slow", size=200_000))
    console = await live_through(lab_session)
    progress = [sign.text for sign in console.signs if "Downloading" in sign.text]
    assert progress[:20] == [f"  Downloading...{percent}%" for percent in range(5, 101, 5)]


async def test_a_wait_program_makes_it_ask_again() -> None:
    wait = Offer({"Dispatch-Idle": "wait"}, size=512)
    lab_session = LabSession(wait, wait, play("pass"))
    console = await live_through(lab_session, pace=0.0001)
    assert lab_session.methods == "HEAD GET HEAD GET HEAD GET POST PUT HEAD GET"
    assert "waiting a minute" in console.text


async def test_each_boot_asks_where_it_is_told_and_speaks_there() -> None:
    """Whatever it was that ended the boot before."""
    wait = Offer({"Dispatch-Idle": "wait"}, size=512)
    broken = play("drop-download", size=1 << 20)
    lab_session = LabSession(play("duplicate"), wait, Offer(status=503, size=0), broken, broken, play("come-back"))
    told = (f"{lab_session.url}{number}" for number in count())
    machine = quick()
    async with lab_session.open(), lived(machine, lambda: next(told)) as console:
        await off(machine)
    boots = [" ".join(seen.method for seen in boot) for _, boot in groupby(lab_session.seen, lambda seen: seen.path)]
    assert boots == [
        "HEAD GET POST POST PUT PUT",
        "HEAD GET",
        "HEAD",
        "HEAD GET",
        "HEAD GET POST PUT",
        "HEAD GET POST",
        "HEAD GET",
    ]
    paths = [path for path, _ in groupby(seen.path for seen in lab_session.seen)]
    assert paths == [f"/dispatch?machine={SECRET}{number}" for number in range(len(boots))], "one URL a boot"
    assert SECRET not in console.text


async def test_a_stopped_machine_ends_with_the_scenario_that_cannot_be_cancelled() -> None:
    """Else its next boot would take the URL of the life that follows."""

    async def stubborn(stage: Stage) -> None:
        stage.say("here I stay")
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    lab_session = LabSession(play("mine"), play("mine"))
    machine = quick(scenarios={"mine": Scenario(play=stubborn)})
    async with lab_session.open(), lived(machine, lambda: lab_session.url) as console:
        await console.wait_for("here I stay")
        await machine.off()
        await machine.until_off()
        assert lab_session.methods == "HEAD GET"
    assert console.faults == []


async def test_the_console_reads_like_firmware() -> None:
    lab_session = LabSession(play("pass", size=4096))
    console = await live_through(lab_session)
    lines = [sign.text for sign in console.signs]
    start = lines.index(">>Start HTTP Boot over IPv4....")
    assert lines[start + 1 : start + 5] == [
        "  Station IP address is 127.0.0.1",
        f"  URI: http://127.0.0.1:{lab_session.port}/dispatch",
        "  NBP filesize is 4096 Bytes",
        "  Downloading...25%",
    ]
    assert 'BdsDxe: starting Boot0001 "UEFI HTTP Boot": workload-7.efi' in lines
    assert "workload-7.efi: memory: \x1b[32mok\x1b[0m" in lines
    assert lines[-1] == "Power off"


async def test_the_machines_token_is_never_shown() -> None:
    lab_session = LabSession(play("pass"), Offer(media="text/plain"))
    console = await live_through(lab_session)
    assert console.faults
    assert SECRET not in console.text + "".join(console.faults)
    assert SECRET not in repr(Target.of(lab_session.url))


@pytest.mark.parametrize(
    ("offer", "words"),
    [
        (Offer(media="application/efi; charset=utf-8"), ("bare media type", "charset=utf-8")),
        (Offer(media="text/plain"), ("bare media type", "application/vnd.efi-iso", "text/plain")),
        (Offer(get={"Content-Type": "application/vnd.efi-img"}), ("as HEAD promised", "vnd.efi-img")),
        (Offer(get_size=2999), ("3000 bytes as HEAD promised", "2999 from GET")),
        (Offer(status=404), ("expected 200", "404 Not Found")),
        (Offer(status=302, headers={"Location": "/x"}), ("expected 200", "302 Found")),
        (play("dance"), ("scenarios pass, fail", "'dance'")),
        (Offer({"Dispatch-Idle": "sleep"}), ("wait, poweroff", "'sleep'")),
    ],
)
async def test_an_answer_that_firmware_cannot_use_is_a_fault_of_the_lab(offer: Offer, words: tuple[str, ...]) -> None:
    lab_session = LabSession(offer, play("pass"))
    console = await live_through(lab_session)
    [fault] = console.faults
    assert all(word in fault for word in words), fault
    assert lab_session.of("PUT"), "it asked again"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/efi\r\n\r\n", "expected a Content-Length, got ''"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "expected a Content-Length, got '-1'"),
        (b"SSH-2.0-x\r\n\r\n", "expected an HTTP/1.1 answer, got 'SSH-2.0-x'"),
        (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", "a line without a colon"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20000, "expected the head of an HTTP answer"),
    ],
)
async def test_what_is_no_http_answer_is_a_fault(raw: bytes, words: str) -> None:
    machine = quick()
    async with raw_server(raw) as url, lived(machine, url) as console:
        await console.wait_for("expected")
    assert words in console.faults[0]


async def test_a_server_that_sends_half_a_body_is_tried_again_but_not_for_ever() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Type: application/efi\r\n\r\n"
    machine = quick()
    async with raw_server(head, head + b"half") as url, lived(machine, url) as console:
        await console.wait_for("the server closed the connection in the middle of the body")
        await off(machine)
    assert console.faults == [f"firmware fell through its boot order after {TRIES} tries in a row"]


async def test_a_server_that_closes_without_an_answer_is_named() -> None:
    machine = quick()
    async with raw_server(b"") as url, lived(machine, url) as console:
        await console.wait_for("the server closed the connection before it answered")


async def test_a_silent_server_is_given_up() -> None:
    machine = quick(patience=0.01)
    async with raw_server() as url, lived(machine, url) as console:
        await console.wait_for("Server response timeout after 0.01 s")
    assert console.faults == []


async def test_a_server_that_is_away_for_a_while_is_no_fault() -> None:
    lab_session = LabSession(play("pass"))
    async with lab_session.open():
        pass  # now its port is known, and closed
    machine = quick(pace=0.002)
    async with lived(machine, lab_session.url) as console:
        await console.wait_for("Error: ")
        async with lab_session.open(lab_session.port):
            await off(machine)
    assert lab_session.methods == "HEAD GET POST PUT HEAD GET"
    assert console.faults == []


@pytest.mark.parametrize(("status", "shown"), [(503, "Server Error: 503 Serv"), (417, "Client Error: 417")])
async def test_a_server_in_trouble_is_asked_again(status: int, shown: str) -> None:
    lab_session = LabSession(Offer(status=status, size=0), play("pass"))
    console = await live_through(lab_session)
    assert lab_session.methods == "HEAD HEAD GET POST PUT HEAD GET"
    assert shown in console.text
    assert console.faults == []


async def test_firmware_gives_up_in_the_end_and_says_so() -> None:
    lab_session = LabSession()
    async with lab_session.open():
        pass
    machine = quick(pace=0.0001)
    async with lived(machine, lab_session.url) as console:
        await off(machine)
    assert console.text.count(">>Start HTTP Boot") == TRIES
    assert console.faults == [f"firmware fell through its boot order after {TRIES} tries in a row"]


async def test_a_workload_whose_boot_is_refused_resets_the_machine() -> None:
    lab_session = LabSession(play("pass"), play("pass"))
    lab_session.refusals["POST"] = [417]
    console = await live_through(lab_session)
    assert lab_session.methods == "HEAD GET POST HEAD GET POST PUT HEAD GET"
    assert "beacon: POST: 417 Expectation Failed: as asked" in console.text
    assert console.faults == []


async def test_a_report_is_repeated_while_the_server_is_in_trouble() -> None:
    lab_session = LabSession(play("pass"))
    lab_session.refusals["PUT"] = [500, 503]
    await live_through(lab_session)
    reports = lab_session.of("PUT")
    assert len(reports) == 3
    assert len({report.body for report in reports}) == 1


async def test_a_workload_gives_its_report_up_in_the_end() -> None:
    lab_session = LabSession(play("pass"))
    lab_session.refusals["PUT"] = [500] * 5
    console = await live_through(lab_session)
    assert lab_session.methods == "HEAD GET POST " + "PUT " * 5 + "HEAD GET"
    assert "beacon: no server took it" in console.text


async def test_a_report_that_the_server_calls_wrong_is_a_fault() -> None:
    lab_session = LabSession(play("pass"))
    lab_session.refusals["PUT"] = [400]
    console = await live_through(lab_session)
    assert console.faults == ["unexpected answer: expected 200, got 400 Bad Request"]


async def test_a_scenario_that_raises_is_named_and_ends_the_machine() -> None:
    async def broken(stage: Stage) -> None:
        await stage.boot()
        raise KeyError("whoops")

    lab_session = LabSession(play("mine"))
    console = await live_through(lab_session, scenarios={"mine": Scenario(play=broken)})
    [told] = console.faults
    assert re.fullmatch(r"the scenario raised KeyError: 'whoops' \(.*test_sim\.py, line \d+\)", told)
    assert lab_session.methods == "HEAD GET POST"


async def test_users_may_play_scenarios_of_their_own() -> None:
    async def mine(stage: Stage) -> None:
        stage.say("one\nline")
        await stage.report(title="mine", result="skipped")

    lab_session = LabSession(play("mine"))
    console = await live_through(lab_session, scenarios={"mine": Scenario(play=mine)})
    assert lab_session.of("PUT")[0].json == {"title": "mine", "result": "skipped"}
    assert "one?line" in console.text, "what is shown stays a line"


async def test_a_server_that_closes_after_each_answer_gets_a_connection_each() -> None:
    lab_session = LabSession(Offer({"Connection": "close"}))
    console = await live_through(lab_session)
    assert lab_session.seen[0].peer != lab_session.seen[1].peer
    assert console.faults == []


async def test_a_console_that_nobody_reads_stays_small() -> None:
    machine = quick()
    for number in range(KEPT + 10):
        machine.show(f"line {number}")
    console = Console(machine)
    await console.wait_for(f"line {KEPT + 9}")
    await console.close()
    assert len(console.signs) == KEPT
    assert console.signs[0].text == "line 10"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://user:pw@127.0.0.1/dispatch?machine=s3cret", "got https://127.0.0.1/dispatch"),
        ("http:///dispatch", "expected a boot URL such as"),
        ("http://127.0.0.1:99999/x?machine=s3cret", "port from 1 to 65535, got http://127.0.0.1:99999/x"),
    ],
)
async def test_a_url_that_cannot_be_booted_is_refused_at_once(url: str, words: str) -> None:
    machine = quick()
    await machine.boot_from(lambda: url)
    with pytest.raises(MachineError) as caught:
        await machine.on()
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    await machine.until_off()


async def test_one_that_was_not_told_where_to_boot_from_says_so() -> None:
    with pytest.raises(MachineError, match="expected to be told where to boot from before it is powered on"):
        await quick().on()


async def test_a_source_that_is_not_ours_is_refused_at_once() -> None:
    machine = quick(source="203.0.113.9")
    with pytest.raises(MachineError, match=r"it cannot send from 203\.0\.113\.9 .*from="):
        await machine.on()


def test_an_ipv6_host_stands_in_brackets_only_where_it_must() -> None:
    target = Target.of("http://[::1]:8080")
    assert (target.host, target.port, target.request) == ("::1", 8080, "/")
    assert target.text == "http://[::1]:8080"


def test_a_length_that_is_no_number_is_none() -> None:
    answer = Answer(status=200, reason="OK", headers={"content-length": "1e3"}, closes=False)
    with pytest.raises(BadAnswerError, match="expected a Content-Length, got '1e3'"):
        _ = answer.length


def spec(text: str, count: int = 1, **options: str) -> Spec:
    pairs = tuple((key.rstrip("_"), value) for key, value in options.items())
    return Spec(scheme="sim", count=count, options=pairs, text=text)


async def powered_on(machine: DrivenMachine, url: str) -> Power:
    assert machine.boot is not None
    assert machine.power is not None
    await machine.boot.boot_from(lambda: url)
    await machine.power.on()
    return machine.power


async def test_a_spec_makes_machines_with_addresses(tmp_path: Path) -> None:
    factory: Factory = create
    options = {"pace": "0.0005", "boot": "0", "from_": "127.0.0.254"}
    machines = factory(spec("sim:3?from=127.0.0.254", 3, **options), tmp_path)
    lab_session = LabSession()
    async with lab_session.open():
        for machine in machines:
            await (await powered_on(machine, lab_session.url)).until_off()
    peers = {seen.peer[0] for seen in lab_session.of("HEAD")}
    assert peers == {"127.0.0.254", "127.0.0.255", "127.0.1.0"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"colour": "red"}, "unknown option 'colour'; sim knows pace, boot, from, play"),
        ({"pace": "fast"}, "expected a number from 0.0001 to 3600 behind pace=, got 'fast'"),
        ({"pace": "0"}, "behind pace=, got '0'"),
        ({"boot": "nan"}, "expected a number from 0 to 3600 behind boot=, got 'nan'"),
        ({"from_": "localhost"}, "expected an address such as 127.0.0.10 behind from=, got 'localhost'"),
        ({"from_": "255.255.255.255"}, "4294967296"),
        ({"play": "dance"}, "expected one of the scenarios pass, fail, no-boot, "),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create(spec("sim:2?x", 2, **options), tmp_path)
    assert "--dispatch-machine sim:2?x: " in str(caught.value)
    assert words in str(caught.value)


async def test_a_hundred_machines_share_a_loop(tmp_path: Path) -> None:
    lab_session = LabSession(*[play("pass")] * 100)
    machines = create(spec("sim:100", 100, pace="0.001", boot="0", from_="127.0.1.1"), tmp_path)
    async with lab_session.open(), AsyncExitStack() as stack:
        powers = [await powered_on(machine, lab_session.url) for machine in machines]
        for power in powers:
            stack.push_async_callback(power.off)
        for power in powers:
            await power.until_off()
    assert len(lab_session.of("PUT")) == 100
    assert not lab_session.broken
