"""POST and PUT on the boot path, over raw sockets: what workloads say, and when it is acknowledged."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import pytest
from labs import FIRMWARE, LabBench, Reply, gathered, running_lab
from waiting import until

from pytest_dispatch.core.model import Case, Outcome, Policy, Report
from pytest_dispatch.results.report_body import LATIN, Reported, read_report
from pytest_dispatch.server.boot.beacon import REPORT_LIMIT
from pytest_dispatch.store.journal import Deletion, Journal, Row
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = pytest.mark.anyio


#: What `beacon` 1.1.0 sends: every field that is not empty.
BEACON = (
    b'{"title":"a title","body":"several\\nlines","labels":["os-debian","proc-milan"],'
    b'"assignees":["octocat"],"milestone":"c1.2.3-4"}'
)


async def test_the_transcript_of_beacon(bench: LabBench) -> None:
    """`beacon boot`, then `beacon report`, each with an empty answer of 200."""
    run = await bench.one()
    await bench.download(run)
    wire = await bench.wire()
    await wire.send("POST /dispatch HTTP/1.1\r\naccept: */*\r\nhost: 127.0.0.1:8080\r\n\r\n")
    booted = await wire.reply()
    assert (booted.start, booted.body) == ("HTTP/1.1 200 OK", b"")
    assert bench.attempt(run).state == State.BOOTING
    head = f"content-type: application/json\r\naccept: */*\r\nhost: x\r\ncontent-length: {len(BEACON)}\r\n\r\n"
    await wire.send(f"PUT /dispatch HTTP/1.1\r\n{head}".encode() + BEACON)
    reported = await wire.reply()
    assert (reported.start, reported.body) == ("HTTP/1.1 200 OK", b"")
    attempt = bench.attempt(run)
    assert attempt.state == State.REPORTED
    assert attempt.reports == (
        Report(
            title="a title",
            body="several\nlines",
            labels=("os-debian", "proc-milan"),
            assignees=("octocat",),
            milestone="c1.2.3-4",
            at=attempt.reports[0].at,
        ),
    )


async def test_busybox_nc_reports(bench: LabBench) -> None:
    """It closes its half of the connection when its request is out, and waits for the answer."""
    run = await bench.booted()
    wire = await bench.wire()
    await wire.send(
        "PUT /dispatch HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 14\r\n\r\n" + '{"title": "t"}'
    )
    wire.finish()
    assert (await wire.reply()).status == 200
    assert await wire.receive() == b""
    assert bench.attempt(run).reports[0].title == "t"


async def test_a_report_in_pieces(bench: LabBench) -> None:
    run = await bench.booted()
    wire = await bench.wire()
    await wire.send("PUT /dispatch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in ('{"title"', ': "t"}'):
        await wire.send(f"{len(piece):x}\r\n{piece}\r\n")
        await asyncio.sleep(0.002)
    await wire.send("0\r\n\r\n")
    assert (await wire.reply()).status == 200
    assert bench.attempt(run).reports[0].title == "t"


async def test_a_client_that_asks_first_whether_to_send(bench: LabBench) -> None:
    """`curl` does so."""
    run = await bench.booted()
    wire = await bench.wire()
    await wire.send(f"PUT /dispatch HTTP/1.1\r\n{FIRMWARE}Expect: 100-continue\r\nContent-Length: 14\r\n\r\n")
    assert (await wire.head()).start == "HTTP/1.1 100 Continue"
    await wire.send('{"title": "t"}')
    assert (await wire.reply()).status == 200
    assert bench.attempt(run).reports[0].title == "t"


async def test_everything_that_a_report_may_say(bench: LabBench) -> None:
    run = await bench.booted()
    reply = await bench.report(
        body="text",
        result="failed",
        cases=[
            {"name": "memory", "outcome": "failed", "duration": 0.5, "message": "3 channels"},
            {"name": "cpu", "result": "OK"},
        ],
        junit='<testsuite name="s"><testcase classname="c" name="j"/></testsuite>',
        tap="1..1\nnot ok 1 - t\n",
        something="else",
    )
    assert reply.status == 200
    (report,) = bench.attempt(run).reports
    assert report.result is Outcome.FAILED
    assert report.cases[:2] == (
        Case(name="memory", outcome=Outcome.FAILED, duration=0.5, message="3 channels"),
        Case(name="cpu", outcome=Outcome.PASSED),
    )
    assert [case.outcome for case in report.cases[2:]] == [Outcome.PASSED, Outcome.FAILED]


async def test_cases_in_the_body_count_only_where_there_are_no_others() -> None:
    body = "TAP version 13\n1..1\nnot ok 1 - in the body\n"
    assert [case.name for case in read_report(json.dumps({"title": "t", "body": body}).encode()).cases] == [
        "in the body"
    ]
    sent = {"title": "t", "body": body, "cases": [{"name": "sent", "outcome": "passed"}]}
    assert [case.name for case in read_report(json.dumps(sent).encode()).cases] == ["sent"]


async def test_several_reports_and_the_same_ones_again(bench: LabBench) -> None:
    run = await bench.booted()
    for title in ("one", "two", "one", "two"):
        assert (await bench.report(title=title)).status == 200
    assert [report.title for report in bench.attempt(run).reports] == ["one", "two"]
    assert (await bench.call("POST")).status == 200
    assert bench.attempt(run).state == State.REPORTED


async def test_each_report_is_kept_as_it_came(bench: LabBench) -> None:
    """Also when several of them wait for the same flush."""
    run = await bench.booted()
    titles = {f"report {n}" for n in range(10)}
    await gathered(*(bench.report(title=title) for title in titles))
    kept = [found for found in bench.journal.reader.runs(run.session) if found.id == run.id]
    assert {report.title for report in kept[0].attempt.reports} == titles


async def test_a_report_after_its_attempt_ended_is_kept_and_changes_nothing(bench: LabBench) -> None:
    run = await bench.booted(policy=Policy(retries=0))
    await bench.call("HEAD")
    ended = bench.now(run)
    assert (ended.outcome, ended.reason) == (Outcome.FAILED, "127.0.0.2 came back without reporting")
    assert (await bench.report(title="late")).status == 200
    assert bench.now(run).outcome is Outcome.FAILED
    assert bench.attempt(run).reports[0].late
    assert bench.journal.reader.runs(run.session)[0].attempt.reports[0].late


# What is refused

CHANGED = "; a machine is known by its address: has it changed since the boot?\n"


@pytest.mark.parametrize("source", ["127.0.0.2", "127.0.0.3"])
async def test_a_boot_without_a_download_is_expected_elsewhere(bench: LabBench, source: str) -> None:
    run = await bench.one()
    await bench.call("HEAD")
    before = bench.now(run)
    reply = await bench.call("POST", source=source)
    assert (reply.status, reply.text) == (417, f"{source} has no workload here that was downloading{CHANGED}")
    assert bench.now(run) == before


async def test_a_report_without_a_boot_is_expected_elsewhere(bench: LabBench) -> None:
    run = await bench.one()
    await bench.download(run)
    before = bench.now(run)
    reply = await bench.report()
    assert (reply.status, reply.text) == (417, f"127.0.0.2 has no workload here that has booted{CHANGED}")
    assert bench.now(run) == before


DEEP = b'{"title": "x", "y": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "expected a report as JSON: it breaks off: line 1, column 1\n"),
        (b'{"title":\n  ', "expected a report as JSON: it breaks off: line 1, column 10, at '{\"title\":'\n"),
        (b'\xef\xbb\xbf{"title": "x",\n ]}', "expected a report as JSON: Expecting property name enclosed in double"),
        (
            b'{"title": "\xc3\xa9",\n "a": x}',
            "expected a report as JSON: Expecting value: line 2, column 7, at '\"a\": x}'",
        ),
        (b'{"title": "x', "expected a report as JSON: Unterminated string starting at: line 1, column 11, at"),
        (b"hello", "expected a report as JSON: Expecting value: line 1, column 1, at 'hello'"),
        (b'{"title": "x"} more', "expected a report as JSON: Extra data: line 1, column 16, at"),
        (b"[]", "expected a report: Expected `object`, got `array`"),
        (b"{}", "expected a report: Object missing required field `title`"),
        (b'{"title": 1}', "expected a report: Expected `str`, got `int` - at `$.title`"),
        (b'{"title": null}', "expected a report: Expected `str`, got `null` - at `$.title`"),
        (b'{"title": "\x01", "labels": 1}', "expected a report: Expected `array | null`, got `int` - at `$.labels`"),
        (b'{"title": "x", "labels": "a"}', "expected a report: Expected `array | null`, got `str` - at `$.labels`"),
        (b'{"title": "x", "labels": [1]}', "expected a report: Expected `str`, got `int` - at `$.labels["),
        (
            b'{"title": "x", "result": ""}',
            "expected a report: expected passed, failed, error or skipped, got '' - at `$.result`",
        ),
        (
            b'{"title": "x", "result": "fine"}',
            "expected a report: expected passed, failed, error or skipped, got 'fine' - at `$.result`",
        ),
        (
            b'{"title": "x", "status": "\\u001b[1m"}',
            "expected a report: expected passed, failed, error or skipped, got",
        ),
        (
            b'{"title": "x", "cases": [{"name": "n", "ok": true}]}',
            "expected a report: expected passed, failed, error or skipped, got none - at `$.cases[0].outcome`",
        ),
        (
            b'{"title": "x", "cases": [{"name": "n", "status": "pass"}, {"name": "n", "result": "?"}]}',
            "expected a report: expected passed, failed, error or skipped, got '?' - at `$.cases[1].result`",
        ),
        (b'{"title": "x", "cases": [{"name": "n", "duration": -1}]}', "expected a report: Expected `float` >= 0.0"),
        (
            b'{"title": "x", "cases": [{"name": "n", "duration": 1e999}]}',
            "expected a report: Number out of range",
        ),
        (b'{"title": "\x01", "y": 1e999}', "expected a report: Out of range float values"),
        (b'{"title": "\x01", "y": ' + b"9" * 5000 + b"}", "expected a report: Exceeds the limit"),
        ('{"title": "ü"}'.encode("utf-16")[:-1], "expected JSON in UTF-8: truncated data at byte 28 of utf-16"),
        (DEEP, "expected a report: too many brackets within brackets"),
    ],
)
async def test_what_is_no_report_is_refused_with_the_reason(bench: LabBench, body: bytes, why: str) -> None:
    run = await bench.booted()
    before = bench.attempt(run)
    reply = await bench.call("PUT", body=body)
    assert reply.status == 400
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.text.startswith(why)
    assert reply.text.count("\n") == 1
    [refusal] = bench.attempt(run).refused
    assert (refusal.why, refusal.whole) == (reply.text.removesuffix("\n"), True)
    assert replace(bench.attempt(run), refused=()) == before
    assert (await bench.report()).status == 200


@cache
def packed(what: str) -> bytes:
    return (
        gzip.compress(bytes(2**26) if what == "bomb" else b'{"title": "t"}') if what != "neither" else b"no gzip at all"
    )


@pytest.mark.parametrize("what", ["bomb", "packed", "neither"])
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "\u0080"])
async def test_a_packed_report_is_refused_and_not_unpacked(bench: LabBench, encoding: str, what: str) -> None:
    """What is no gzip at all would break the connection if somebody tried; so it goes on."""
    run, body = await bench.booted(), packed(what)
    wire = await bench.wire()
    told = f"{FIRMWARE}Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n"
    await wire.send(f"PUT /dispatch HTTP/1.1\r\n{told}".encode("latin-1") + body)
    reply = await wire.reply()
    assert reply.status == 415
    assert reply.text.startswith("expected an uncompressed report, got one with Content-Encoding: ")
    assert reply.text.count("\n") == 1
    assert not bench.attempt(run).reports
    await wire.send(f'PUT /dispatch HTTP/1.1\r\n{FIRMWARE}Content-Length: 14\r\n\r\n{{"title": "t"}}')
    assert (await wire.reply()).status == 200


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_a_report_that_is_said_not_to_be_packed_is_taken(bench: LabBench, encoding: str) -> None:
    await bench.booted()
    reply = await bench.call("PUT", headers={"Content-Encoding": encoding}, body=b'{"title": "x"}')
    assert reply.status == 200


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (b'\xef\xbb\xbf{"title": "x"}', "x"),
        (b'{"title": "x"}\0', "x"),
        (b'{"title": "x"}\r\n\0\0\0', "x"),
        ('{"title": "ü💥"}'.encode("utf-16"), "ü💥"),
        ('{"title": "ü"}'.encode("utf-16-be"), "ü"),
        ('{"title": "ü"}'.encode("utf-32"), "ü"),
        (b'{"title": "a\x01\tb\nc\x1b[1m"}', "a\x01\tb\nc\x1b[1m"),
        (b'{"title": "x\\ud800y"}', "x\ufffdy"),
        (b'{"title": "\\ud83d\\udca5"}', "💥"),
        (b'{"title": "x\xed\xa0\x80y"}', "x\ufffdy"),
        (b'{"title": "\xed\xa0\xbd\xed\xb2\xa5"}', "💥"),
        (b'{"title": "x", "y": NaN, "cases": [{"name": "n", "outcome": "ok", "duration": Infinity}]}', "x"),
        (b'{"title": "x", "labels": null, "cases": [{"name": "n", "outcome": "ok", "duration": null}]}', "x"),
    ],
)
def test_what_is_not_quite_json_is_read(body: bytes, title: str) -> None:
    report = read_report(body)
    assert (report.title, report.body) == (title, "")
    assert all((case.outcome, case.duration) == (Outcome.PASSED, 0.0) for case in report.cases)


def test_latin_1_is_read_and_said() -> None:
    report = read_report(b'{"title": "x\xfc", "body": "\xc3\xbc and \xe9\nThe end."}')
    assert report.title == "xü"
    assert report.body == f"ü and é\nThe end.\n\n{LATIN}"
    assert read_report(b'{"title": "\xff"}').body == LATIN


@pytest.mark.parametrize(
    ("results", "why"),
    [
        ({"junit": "<a/>"}, "JUnit: unreadable: expected JUnit XML with <testsuites> or <testsuite> outside, got <a>"),
        ({"tap": "hello"}, "TAP: unreadable: expected TAP with results such as 'ok 1 - name' or a plan such as '1..8'"),
    ],
)
async def test_a_report_whose_results_cannot_be_read_is_kept_and_has_failed(
    bench: LabBench, results: dict[str, str], why: str
) -> None:
    run = await bench.booted()
    assert (await bench.report(body="a log", **results)).status == 200
    [report] = bench.attempt(run).reports
    assert report.body == "a log"
    await bench.call("HEAD")
    ended = bench.now(run)
    assert ended.outcome is Outcome.FAILED
    assert ended.reason.startswith(f"1 of 1 cases did not pass: {why}")


def longest() -> bytes:
    frame = b'{"title": "x", "body": ""}'
    return frame.replace(b'""', b'"' + b"y" * (REPORT_LIMIT - len(frame)) + b'"')


async def test_sixteen_mebibytes_are_taken(bench: LabBench) -> None:
    run = await bench.booted()
    body = longest()
    assert len(body) == REPORT_LIMIT
    assert (await bench.call("PUT", body=body)).status == 200
    assert len(bench.attempt(run).reports[0].body) == REPORT_LIMIT - 26
    assert len(bench.journal.reader.runs(run.session)[0].attempt.reports[0].body) == REPORT_LIMIT - 26


@pytest.mark.parametrize("chunked", [False, True])
async def test_more_is_refused_and_the_connection_goes_on(bench: LabBench, chunked: bool) -> None:
    run = await bench.booted()
    body = longest() + b" "
    wire = await bench.wire()
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    await wire.send(f"PUT /dispatch HTTP/1.1\r\n{FIRMWARE}{length}\r\n\r\n")
    await wire.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body)
    reply = await wire.reply()
    assert reply.status == 413
    assert reply.text == f"expected a report of at most 16 MiB, got at least {len(body)} bytes\n"
    assert bench.attempt(run).state == State.BOOTING, "it still runs"
    assert not bench.attempt(run).reports
    shorter = '{"title": "t", "result": "failed"}'
    await wire.send(f"PUT /dispatch HTTP/1.1\r\n{FIRMWARE}Content-Length: {len(shorter)}\r\n\r\n{shorter}")
    assert (await wire.reply()).status == 200
    [report] = bench.attempt(run).reports
    assert (report.result, report.late) == (Outcome.FAILED, False)


async def test_a_report_that_is_announced_too_long_is_refused_before_it_is_sent(bench: LabBench) -> None:
    await bench.booted()
    wire = await bench.wire()
    await wire.send(f"PUT /dispatch HTTP/1.1\r\n{FIRMWARE}Content-Length: {2**40}\r\n\r\n")
    reply = await wire.reply()
    assert (reply.status, reply.text) == (413, f"expected a report of at most 16 MiB, got at least {2**40} bytes\n")


async def test_a_machine_that_goes_away_within_its_report_is_told_of(
    bench: LabBench, caplog: pytest.LogCaptureFixture
) -> None:
    run = await bench.booted()
    before = bench.attempt(run)
    wire = await bench.wire()
    await wire.send(f'PUT /dispatch HTTP/1.1\r\n{FIRMWARE}Content-Length: 20\r\n\r\n{{"title": ')
    await asyncio.sleep(0.01)
    wire.reset()
    await until(lambda: bench.attempt(run).refused)
    [refusal] = bench.attempt(run).refused
    assert (refusal.begins, refusal.whole) == ('{"title":', False)
    assert refusal.why.startswith("expected a whole request: ")
    assert replace(bench.attempt(run), refused=()) == before
    assert not caplog.records


# When it is acknowledged


class SlowDisk(Journal):
    """A journal whose disk is as slow as a test wants: what is written is done when the test says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.open_gate = threading.Event()
        self.open_gate.set()
        self.waiting = 0
        self._lab_state = ThreadPoolExecutor(1)  # what was handed over first is written first

    def write(self, rows: Sequence[Row | Deletion]) -> Future[None]:
        self.waiting += bool(rows) and not self.open_gate.is_set()
        return self._lab_state.submit(self._write_later, rows)

    def _write_later(self, rows: Sequence[Row | Deletion]) -> None:
        self.open_gate.wait()
        super().write(rows).result()

    def close(self, timeout: float = 2.0) -> None:
        self._lab_state.shutdown()
        super().close(timeout)


async def test_nothing_is_acknowledged_before_it_is_on_disk(tmp_path: Path) -> None:
    async with running_lab(tmp_path, journal=SlowDisk) as bench:
        journal = bench.journal
        assert isinstance(journal, SlowDisk)
        run = await bench.one()
        await bench.download(run)
        says: list[tuple[Callable[[], Coroutine[None, None, Reply]], str]] = [
            (lambda: bench.call("POST"), "booting"),
            (bench.report, "reported"),
        ]
        for say, state in says:
            journal.open_gate.clear()
            said = asyncio.create_task(say())
            await until(lambda: journal.waiting)
            await bench.call("HEAD", source="127.0.0.9")  # the lab goes on meanwhile
            again = asyncio.create_task(say())  # the same once more: it has to wait too
            done, _ = await asyncio.wait([said, again], timeout=0.05)
            assert not done
            assert json.loads(_record(journal, run.id))["attempts"][0]["history"][-1]["state"] != state
            journal.waiting = 0
            journal.open_gate.set()
            assert [reply.status for reply in await gathered(said, again)] == [200, 200]
            assert json.loads(_record(journal, run.id))["attempts"][0]["history"][-1]["state"] == state


def _record(journal: Journal, run_id: str) -> bytes:
    (session,) = {run_id.partition(".")[0]}
    return next(msgspec.json.encode(run) for run in journal.reader.runs(session) if run.id == run_id)


def test_a_report_is_what_beacon_sends() -> None:
    """Every field that PROTOCOL has, and no other is required."""
    fields = {field.name: field.required for field in msgspec.structs.fields(Reported)}
    assert [name for name, required in fields.items() if required] == ["title"]
    assert {"title", "body", "labels", "assignees", "milestone"} < set(fields)
