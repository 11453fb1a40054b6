"""Known issues of a lab: carried over as runs end, kept over a restart, and linked by people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from databases import Place
from labs import LabBench, running_lab
from past_runs import close, later
from waiting import until

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.known_issues import BY_LAB, MOST_LINKS, Act, Tracking
from pytest_dispatch.core.model import Issue, Outcome, Run
from pytest_dispatch.github.filer_interface import Filed, FilingError
from pytest_dispatch.lab.issue_tracker import KEPT, TIDY
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.lab.state import UnknownError
from pytest_dispatch.store.journal import Journal

pytestmark = pytest.mark.anyio

URL = "https://bugs.example/7"
FAILED = ({"name": "x", "outcome": "failed"}, {"name": "y", "outcome": "passed"})
UPDATE = IssueRule(repo="o/r", outcomes=frozenset(Outcome), updates=True, close_after=2)


@dataclass
class Keeper:
    """Keeps issues for failures, and notes what it is told."""

    told: list[tuple[str, str, str]] = field(default_factory=list)  # what is done, the failure, the known address
    faults: list[FilingError] = field(default_factory=list)
    files: int = 0

    def file(self, issue: Issue, may_exist: bool) -> Filed:
        self.files += 1
        return Filed(f"https://gh/{self.files}")

    def update(self, issue: Issue, tracking: Tracking, may_exist: bool) -> Filed:
        if self.faults:
            raise self.faults.pop()
        self.told.append((str(tracking.act), tracking.marker, tracking.url))
        return Filed(f"https://gh/kept-{tracking.marker[-6:]}")

    @property
    def acts(self) -> list[str]:
        return [act for act, _, _ in self.told]


@asynccontextmanager
async def lab(folder: Path, place: Place | None = None, **more: Any) -> AsyncIterator[LabBench]:
    journal = Journal if place is None else lambda _file: Journal(place.where)
    async with running_lab(folder, private=False, journal=journal, **more) as bench:
        yield bench


async def ends(bench: LabBench, *, result: str = "failed", rule: IssueRule | None = None, **said: Any) -> Run:
    """A session with one workload that reports this; it is over."""
    [run] = await bench.submit(bench.workload(), rule=rule)
    await bench.call("HEAD")
    await bench.download(run)
    await bench.call("POST")
    cases = FAILED if result == "failed" else ()
    assert (await bench.report(**{"result": result, "cases": cases, **said})).status == 200
    await bench.call("HEAD")
    await until(lambda: bench.now(run).outcome is not None)
    await bench.lab.lab_state.on_disk()
    return run


async def links(bench: LabBench, run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await bench.api("GET", f"/runs/{run.id}")).json["links"]
    return found


async def test_a_person_s_link_is_carried_over_also_by_the_next_lab(where: Place, tmp_path: Path) -> None:
    async with lab(tmp_path, where) as bench:
        first = await ends(bench)
        reply = await bench.api("POST", f"/runs/{first.id}/links", {"url": URL})
        assert (reply.status, [link["url"] for link in reply.json]) == (201, [URL])
        (link,) = await links(bench, await ends(bench))
        assert (link["url"], link["by"], link["carried"]) == (URL, "lab", first.id)
    async with lab(tmp_path, where) as bench:
        assert [link["url"] for link in await links(bench, await ends(bench))] == [URL]
        assert await links(bench, await ends(bench, result="passed")) == []
        assert await links(bench, await ends(bench)) == []


async def test_a_run_that_the_lab_has_forgotten_is_linked_too(where: Place, tmp_path: Path) -> None:
    async with lab(tmp_path, where) as bench:
        run = await ends(bench)
        await close(bench, run.session)
        later(bench)
        assert run.id not in bench.lab.queue.runs
        await bench.api("POST", f"/runs/{run.id}/links", {"url": URL})
        assert [link["url"] for link in await links(bench, run)] == [URL]
        assert [link["url"] for link in await links(bench, await ends(bench))] == [URL]
        reply = await bench.api("DELETE", f"/runs/{run.id}/links?url={URL}")
        assert (reply.status, reply.json) == (200, [])
        assert await links(bench, run) == []


async def test_what_cannot_be_linked(tmp_path: Path) -> None:
    async with lab(tmp_path) as bench:
        run = await ends(bench)
        for url in (
            "",
            "javascript:alert(1)",
            "https://",
            "https://me:pw@x/",
            "https://x/ y",
            "https://x/" + "y" * 2000,
        ):
            reply = await bench.api("POST", f"/runs/{run.id}/links", {"url": url})
            assert reply.status == 400
            assert "url: expected the address of an issue (https://…), got " in reply.json["error"]
        for number in range(MOST_LINKS):
            await bench.lab.issue_links.add(run.id, f"{URL}{number}", "ada")
        await bench.lab.issue_links.add(run.id, f"{URL}0", "eve")  # it has that one
        with pytest.raises(ConfigError, match="expected at most 20 links of a run"):
            await bench.lab.issue_links.add(run.id, URL, "ada")
        with pytest.raises(UnknownError, match="no link of "):
            await bench.lab.issue_links.remove(run.id, URL)
        assert (await bench.api("POST", "/runs/nothing/links", {"url": URL})).status == 404


async def test_what_the_lab_files_is_a_known_issue_of_the_next_failure(tmp_path: Path) -> None:
    keeper = Keeper()
    rule = IssueRule(repo="o/r", outcomes=frozenset(Outcome))
    async with lab(tmp_path, filers=lambda _repo: keeper) as bench:
        first = await ends(bench, rule=rule)
        await until(lambda: not bench.lab.issues.filing(first))
        second = await ends(bench, rule=rule)
        carried = (await links(bench, second))[0]
        assert (carried["url"], carried["by"], carried["carried"]) == ("https://gh/1", BY_LAB, first.id)
        assert keeper.files == 2


async def test_one_issue_is_kept_for_a_failure_and_closed_after_passes(where: Place, tmp_path: Path) -> None:
    keeper = Keeper()
    async with lab(tmp_path, where, filers=lambda _repo: keeper) as bench:
        first = await ends(bench, rule=UPDATE)
        await until(lambda: not bench.lab.issues.filing(first))
    async with lab(tmp_path, where, filers=lambda _repo: keeper) as bench:
        second = await ends(bench, rule=UPDATE)
        await until(lambda: not bench.lab.issues.filing(second))
        (made, marker, url), again = keeper.told
        assert (made, url) == (Act.UPDATE, "")
        assert again == (Act.UPDATE, marker, f"https://gh/kept-{marker[-6:]}")
        await ends(bench, result="passed", rule=UPDATE)
        await ends(bench, result="passed", rule=IssueRule())  # whoever asks for it
        assert keeper.acts == [Act.UPDATE] * 2, "a session that does not ask for it closes nothing"
        passed = await ends(bench, result="passed", rule=UPDATE)
        await until(lambda: len(keeper.told) == 3)
        assert keeper.told[-1] == (Act.CLOSE, marker, f"https://gh/kept-{marker[-6:]}")
        await ends(bench, result="passed", rule=UPDATE)
        await bench.lab.lab_state.on_disk()
        assert len(keeper.told) == 3
        assert (await bench.api("GET", f"/runs/{passed.id}")).json["links"] == []


async def test_what_is_over_leaves_the_journal(where: Place, tmp_path: Path) -> None:
    def kept() -> list[tuple[Any, ...]]:
        return where.all("SELECT remembered FROM dispatch_failures")

    async with lab(tmp_path, where) as bench:
        await ends(bench)
        assert len(kept()) == 1
        await ends(bench, result="passed")
        bench.clock.ahead += TIDY
        await until(lambda: kept() == [])
        await ends(bench)
        bench.clock.ahead += TIDY
        await asyncio.sleep(0.3)
        assert len(kept()) == 1
        bench.clock.ahead += KEPT
        await until(lambda: kept() == [])


async def test_a_late_report_is_added(tmp_path: Path) -> None:
    keeper = Keeper()
    async with lab(tmp_path, filers=lambda _repo: keeper) as bench:
        run = await ends(bench, rule=UPDATE)
        await until(lambda: not bench.lab.issues.filing(run))
        await bench.report(title="at last")
        await until(lambda: len(keeper.told) == 2)
        (_, marker, _), late = keeper.told
        assert late == (Act.ADD, marker, f"https://gh/kept-{marker[-6:]}")


async def test_what_is_gone_is_looked_for_or_filed_anew(tmp_path: Path) -> None:
    keeper = Keeper()
    async with lab(tmp_path, filers=lambda _repo: keeper) as bench:
        first = await ends(bench, rule=UPDATE)
        await until(lambda: not bench.lab.issues.filing(first))
        keeper.faults.append(FilingError("it was deleted", refused=True))
        second = await ends(bench, rule=UPDATE)
        await until(lambda: not bench.lab.issues.filing(second))
        third = await ends(bench, rule=UPDATE)
        await until(lambda: not bench.lab.issues.filing(third))
        assert [url for _, _, url in keeper.told] == ["", ""]


async def test_two_holders_do_not_write_to_one_issue_at_a_time(tmp_path: Path) -> None:
    async with lab(tmp_path) as bench:
        runs = [await ends(bench, rule=UPDATE) for _ in range(2)]
        holders = bench.lab.issues.holder_issues
        for run in runs:
            holders.holder_files(run.session, files=True)
        one, other = (run.session for run in runs)
        [first] = await holders.claim(one)
        assert await holders.claim(other) == []
        done = replace(first, tries=1, url="https://gh/1")
        await holders.tried(one, done)
        [second] = await holders.claim(other)
        assert second.tracking is not None
        assert second.tracking.url == done.url


async def test_outcome_links_and_issue_are_written_together(tmp_path: Path) -> None:
    """Whatever moment a lab is killed at."""
    seen: list[set[str]] = []

    class Watched(Journal):
        def write(self, rows: Any) -> Any:
            tables = {table.name for table, _ in rows}
            if any(table.name == "dispatch_runs" and row["outcome"] for table, row in rows):
                seen.append(tables)
            return super().write(rows)

    async with running_lab(tmp_path, private=False, journal=Watched, filers=lambda _repo: Keeper()) as bench:
        first = await ends(bench, rule=UPDATE)
        await bench.lab.issue_links.add(first.id, URL, "ada")
        await ends(bench, rule=UPDATE)
        await asyncio.sleep(0)
    assert [{"dispatch_failures", "dispatch_issues"} <= tables for tables in seen] == [True, True]
    assert "dispatch_links" in seen[1]
