"""History over HTTP: searches, series, overrides, notes, consoles and JUnit files, also of forgotten runs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from junitparser import JUnitXml
from labs import LabBench
from past_runs import close, later, runs_through
from service_bench import ServiceBench, service

from pytest_dispatch.core.model import Outcome, Run
from pytest_dispatch.lab.console_lines import LEFT_OUT
from pytest_dispatch.lab.history import Keep
from pytest_dispatch.server.api.history_schemas import NoteWanted, OverrideWanted
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.store.journal import console_row

pytestmark = pytest.mark.anyio

MACHINE = "127.0.0.2"
DAY = 86_400.0


@dataclass
class Past:
    """A service with users, and a session that it has forgotten: one run passed, one failed.

    Attributes:
        tokens: Of a reader, an operator, and of one who may use another group only.
    """

    service: ServiceBench
    runs: list[Run]
    tokens: dict[str, str]

    @property
    def bench(self) -> LabBench:
        return self.service.bench

    @property
    def failed(self) -> str:
        return self.runs[1].id

    async def ask(self, method: str, path: str, body: object = None, *, by: str = "ada", status: int = 200) -> Any:
        reply = await self.service.ask(method, path, body, token=self.tokens[by])
        assert reply.status == status, reply.text
        return reply.json if reply.body else None

    async def found(self, search: str, *, by: str = "eve", **more: int) -> list[str]:
        """Names of the runs that a search finds."""
        page = await self.ask("GET", self.address(search, **more), by=by)
        return [run["name"] for run in page["runs"]]

    @staticmethod
    def address(search: str, **more: int) -> str:
        return "/history?q=" + quote(search) + "".join(f"&{name}={value}" for name, value in more.items())


@asynccontextmanager
async def past(folder: Path) -> AsyncIterator[Past]:
    async with service(folder) as running:
        tokens = {"ada": await running.added("ada", Role.OPERATOR), "eve": await running.added("eve", Role.READER)}
        tokens["elsewhere"] = await running.token_elsewhere("ada")
        bench = running.bench
        a, b = await runs_through(bench, "a.efi"), await bad_run(bench)
        for session in (a[0].session, b.session):
            await close(bench, session)
        later(bench)
        assert not bench.lab.queue.runs
        yield Past(running, [*a, b], tokens)


async def bad_run(bench: LabBench) -> Run:
    """A machine runs one that fails, with a word on its console."""
    (run,) = await bench.submit(bench.workload("b.efi", labels=("nightly",)))
    await bench.call("HEAD")
    await bench.download(run)
    assert (await bench.call("POST")).status == 200
    bench.lab.lab_state.write([console_row(run.id, 1, 5.0, "one\ntwo"), console_row(run.id, 1, 6.0, "three")])
    cases = [{"name": "disk", "outcome": "failed", "message": "no disk"}, {"name": "net", "outcome": "passed"}]
    assert (await bench.report(title="self-test", cases=cases, body="a long story")).status == 200
    await bench.call("HEAD")
    for _ in range(200):
        if bench.now(run).outcome:
            return bench.now(run)
        await asyncio.sleep(0.05)
    raise AssertionError("it has no outcome")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Past]:
    async with past(tmp_path) as running:
        yield running


async def test_a_run_is_found_by_a_report_that_came_late(lab: Past) -> None:
    run = await bad_run(lab.bench)
    assert (await lab.bench.report(title="afterthought")).status == 200
    page = await lab.ask("GET", lab.address("afterthought"))
    assert [each["run"] for each in page["runs"]] == [run.id]
    assert [each["run"] for each in (await lab.ask("GET", lab.address("self-test")))["runs"]] == [run.id, lab.failed]


async def test_runs_are_found_by_fields_and_words(lab: Past) -> None:
    assert await lab.found("") == ["b.efi", "a.efi"]
    assert await lab.found("outcome:failed") == ["b.efi"]
    assert await lab.found("-outcome:failed") == ["a.efi"]
    assert await lab.found(f"machine:{MACHINE} workload:a* since:1h") == ["a.efi"]
    assert await lab.found("label:nightly") == ["b.efi"]
    assert await lab.found("self-test disk") == ["b.efi"]
    assert await lab.found("net") == [], "a case that passed"
    assert await lab.found("before:1h") == []
    page = await lab.ask("GET", "/history?most=1")
    rest = await lab.ask("GET", f"/history?most=1&before={page['before']}")
    assert [run["name"] for run in (*page["runs"], *rest["runs"])] == ["b.efi", "a.efi"]
    assert rest["before"] is None
    (run,) = page["runs"]
    expected = {
        "outcome": "failed",
        "original": "failed",
        "group": "lab",
        "machine": MACHINE,
        "who": "lab",
        "attempts": 1,
        "kind": "boot",
        "source": "w",
    }
    assert {name: run[name] for name in expected} == expected
    assert run["digest"].startswith("sha256:")


async def test_a_mistake_in_a_search_is_told(lab: Past) -> None:
    refused = await lab.ask("GET", lab.address("a outcome:broken"), status=400)
    assert refused["error"].startswith("search, character 11: outcome: expected passed, failed, error or skipped")


async def test_a_token_for_groups_sees_no_runs_of_others(lab: Past) -> None:
    assert await lab.found("", by="elsewhere") == []
    for path in (f"/runs/{lab.failed}", f"/runs/{lab.failed}/console", f"/runs/{lab.failed}/junit"):
        refused = await lab.ask("GET", path, by="elsewhere", status=403)
        assert refused["error"] == "expected a group that this token is for (elsewhere), got 'lab'"
    refused = await lab.ask("GET", "/history/series", by="elsewhere", status=403)
    assert refused["error"].startswith("expected a token for all groups")


async def test_a_forgotten_run_is_explained_as_over(lab: Past) -> None:
    told = await lab.ask("GET", f"/runs/{lab.failed}/explanation", by="eve")
    assert (told["phase"], told["machines"]) == ("over", [])
    assert told["sentence"].startswith("It is over: failed")


async def test_a_forgotten_run_is_shown_in_full(lab: Past) -> None:
    view = await lab.ask("GET", f"/runs/{lab.failed}", by="eve")
    assert (view["run"]["outcome"], view["run"]["attempts"][0]["reports"][0]["body"]) == ("failed", "a long story")
    assert [line["text"] for line in view["console"]] == ["one", "two", "three"]
    assert (view["override"], view["notes"], view["gone"], view["whole"]) == (None, [], [], True)
    unknown = await lab.ask("GET", "/runs/nobody", status=404)
    assert unknown["error"] == "no run 'nobody', neither in the lab nor in its history"


async def test_an_outcome_is_overridden_and_given_back(lab: Past) -> None:
    wanted = OverrideWanted(outcome=Outcome.PASSED, reason="a known defect of the disk")
    told: list[tuple[str, str]] = []
    lab.bench.lab.watchers.add_of_history(lambda was, now: told.append((str(was.outcome), str(now.outcome))))
    done = await lab.ask("POST", f"/runs/{lab.failed}/override", wanted)
    assert (done["outcome"], done["original"], done["override"]["who"]) == ("passed", "failed", "ada")
    assert await lab.found("outcome:passed") == ["b.efi", "a.efi"]
    assert await lab.found("overridden:yes original:failed") == ["b.efi"]
    view = await lab.ask("GET", f"/runs/{lab.failed}")
    assert (view["run"]["outcome"], view["override"]["outcome"]) == ("failed", "passed")
    refused = await lab.ask("POST", f"/runs/{lab.failed}/override", wanted, status=400)
    assert refused["error"] == "outcome: expected another than passed, which counts already, got the same"
    undone = await lab.ask("DELETE", f"/runs/{lab.failed}/override")
    assert (undone["outcome"], undone["override"]) == ("failed", None)
    assert await lab.ask("DELETE", f"/runs/{lab.failed}/override") == undone  # the first answer may have been lost
    assert told == [("failed", "passed"), ("passed", "failed")]
    entries = await lab.service.audit(action="run.override")
    assert [(each["who"], each["target"], each["before"], each["after"]["outcome"]) for each in entries] == [
        ("ada", lab.failed, {"outcome": "failed"}, "passed")
    ]


async def test_notes_are_kept_found_and_deleted(lab: Past) -> None:
    note = await lab.ask("POST", f"/runs/{lab.failed}/notes", NoteWanted(text="see the \x1b[31mheatsink"), status=201)
    assert (note["who"], note["text"]) == ("ada", "see the heatsink")
    assert await lab.found("heatsink") == await lab.found("noted:yes") == ["b.efi"]
    assert [each["text"] for each in (await lab.ask("GET", f"/runs/{lab.failed}"))["notes"]] == ["see the heatsink"]
    unknown = await lab.ask("DELETE", f"/runs/{lab.failed}/notes/none", status=404)
    assert unknown["error"].startswith("no note 'none' on the run")
    await lab.ask("DELETE", f"/runs/{lab.failed}/notes/{note['id']}", status=204)
    assert await lab.found("heatsink") == await lab.found("noted:yes") == []


async def test_nothing_is_added_to_a_run_that_has_not_ended(lab: Past) -> None:
    opened = await lab.service.session(lab.tokens["ada"])
    for path, body in (
        ("override", OverrideWanted(outcome=Outcome.PASSED, reason="x")),
        ("notes", NoteWanted(text="x")),
    ):
        refused = await lab.ask("POST", f"/runs/{opened.run}/{path}", body, status=409)
        assert refused["error"].endswith("expected a run that has ended, got one that has not; wait, or cancel it")
    await lab.ask("GET", f"/runs/{opened.run}/junit", status=409)


async def test_a_run_in_memory_that_has_ended_takes_them_too(lab: Past) -> None:
    run = await bad_run(lab.bench)
    await lab.ask("POST", f"/runs/{run.id}/override", OverrideWanted(outcome=Outcome.SKIPPED, reason="not ours"))
    await lab.ask("POST", f"/runs/{run.id}/notes", NoteWanted(text="again"), status=201)
    view = await lab.ask("GET", f"/runs/{run.id}")
    assert (view["override"]["outcome"], [note["text"] for note in view["notes"]]) == ("skipped", ["again"])


async def test_statistics_of_a_series(lab: Past) -> None:
    await lab.ask("POST", f"/runs/{lab.failed}/override", OverrideWanted(outcome=Outcome.PASSED, reason="known"))
    later_run = await bad_run(lab.bench)
    (series,) = await lab.ask("GET", "/history/series?name=b.efi&origin=w&kind=boot", by="eve")
    assert (series["kind"], series["source"], series["name"]) == ("boot", "w", "b.efi")
    every, machine = series["machines"]
    assert (every["machine"], machine["machine"]) == ("", MACHINE)
    for each in (every, machine):
        assert (each["runs"], each["outcomes"], each["flaky_rate"]) == (2, {"failed": 2}, None)
        assert each["overridden"] == [{"original": "failed", "outcome": "passed", "count": 1}]
        assert each["p50"] is not None
        point = each["turning_point"]
        assert (point["last_good"]["run"], point["first_bad"]["run"]) == (lab.failed, later_run.id)
        assert [(each["what"], each["good"]) for each in point["changed"]] == [("digest", point["last_good"]["digest"])]
    assert [each["name"] for each in await lab.ask("GET", "/history/series")] == ["a.efi", "b.efi"]
    assert len(await lab.ask("GET", "/history/series?most=1")) == 1


async def test_the_numbers_of_the_charts_are_those_of_the_runs_of_ones_groups(lab: Past) -> None:
    found = await lab.ask("GET", "/history/trends?over=7d", by="eve")
    assert (found["over"], found["width"], len(found["slots"]), found["looked_at"]) == ("7d", 7200, 84, 2)
    assert [slot["begins"] for slot in found["slots"]] == [found["slots"][0]["begins"] + 7200 * n for n in range(84)]
    counts = Counter[str]()
    for slot in found["slots"]:
        counts.update(slot["outcomes"])
        assert (slot["wait"]["half"] is not None) == bool(slot["outcomes"])
    assert counts == {"passed": 1, "failed": 1}
    assert [(each["machine"], each["runs"]) for each in found["machines"]] == [(MACHINE, 2)]
    assert {"queued", "starting", "running"} <= {each["phase"] for each in found["states"]}
    assert found["flaky"] == []
    elsewhere = await lab.ask("GET", "/history/trends", by="elsewhere")
    assert (elsewhere["over"], elsewhere["looked_at"], elsewhere["machines"]) == ("24h", 0, [])


async def test_another_time_of_the_charts_is_told(lab: Past) -> None:
    refused = await lab.ask("GET", "/history/trends?over=2h", status=400)
    assert refused["error"] == "query parameter over: expected one of 1h, 24h, 7d, 30d, got '2h'"


async def test_a_console_in_parts(lab: Past) -> None:
    view = await lab.ask("GET", f"/runs/{lab.failed}/console", by="eve")
    assert [line["text"] for line in view["lines"]] == ["one", "two", "three"]
    assert (view["complete"], view["attempt"], view["gone"]) == (True, 1, False)
    more = await lab.ask("GET", f"/runs/{lab.failed}/console?after={view['after']}&wait=5")
    assert (more["lines"], more["after"], more["complete"]) == ([], view["after"], True)
    unknown = await lab.ask("GET", f"/runs/{lab.failed}/console?attempt=2", status=404)
    assert unknown["error"] == f"no attempt 2 of the run {lab.failed}, which has 1"


async def test_a_console_is_followed_while_the_machine_shows_more(lab: Past) -> None:
    bench = lab.bench
    (run,) = await bench.submit(bench.workload("c.efi"))
    await bench.call("HEAD")
    bench.lab.console.shown(MACHINE, "hello")
    view = await lab.ask("GET", f"/runs/{run.id}/console?wait=20")
    assert ([line["text"] for line in view["lines"]], view["complete"]) == (["hello"], False)
    follow = asyncio.create_task(lab.ask("GET", f"/runs/{run.id}/console?after={view['after']}&wait=20"))
    await asyncio.sleep(0.1)
    bench.lab.console.shown(MACHINE, "world")
    assert [line["text"] for line in (await follow)["lines"]] == ["world"]
    nothing = await lab.ask("GET", f"/runs/{run.id}/console?after=999999999")
    assert (nothing["lines"], nothing["complete"]) == ([], False)
    assert LEFT_OUT not in json.dumps(view)


async def test_a_run_as_a_junit_file(lab: Past) -> None:
    reply = await lab.service.ask("GET", f"/runs/{lab.failed}/junit", token=lab.tokens["eve"])
    assert (reply.status, reply.headers["content-type"]) == (200, "application/xml; charset=utf-8")
    (suite,) = JUnitXml.fromstring(reply.body)
    item, disk, net = suite
    assert (item.name, disk.name, net.name) == ("b.efi", "disk", "net")
    assert [(case.is_passed, len(case.result)) for case in (item, disk, net)] == [(False, 1), (False, 1), (True, 0)]
    assert "no disk" in disk.result[0].text
    assert "last console lines" in item.result[0].text
    assert b'name="dispatch_workload" value="b.efi"' in reply.body
    assert b'name="dispatch_outcome" value="failed"' in reply.body


async def test_what_was_dropped_for_its_age_is_told(lab: Past) -> None:
    lab.bench.lab.history.keep = Keep(consoles=DAY, texts=2 * DAY)
    lab.bench.clock.ahead += 1.5 * DAY
    assert (await lab.ask("GET", f"/runs/{lab.failed}"))["gone"] == ["consoles"]
    lab.bench.clock.ahead += DAY
    assert (await lab.ask("GET", f"/runs/{lab.failed}"))["gone"] == ["consoles", "texts"]
    assert (await lab.ask("GET", f"/runs/{lab.runs[0].id}/console"))["gone"] is True
