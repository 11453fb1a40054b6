"""No page of a large lab is long, in bytes and nodes: with 200 machines, 2,000 runs that wait, and a long past."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import html5lib  # type: ignore[import-untyped]
import pytest
from made_up_history import YEAR, make_history, make_steps
from service_bench import ServiceBench, service
from visitors import SeenPage, Visitor, signed_in

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.machine import Identity
from pytest_dispatch.core.model import KnownBy, Policy
from pytest_dispatch.core.templates import Template
from pytest_dispatch.server.api.account_schemas import NewUser
from pytest_dispatch.server.api.group_schemas import HoldWanted, QueueWanted
from pytest_dispatch.server.api.schemas import OpenSession
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.web.page_routes import PAGE_ROUTES
from pytest_dispatch.store.database import Database

pytestmark = pytest.mark.anyio

MOST_BYTES, MOST_NODES = 50_000, 3_000
CHARTS = 75_000, 3_500  # likewise, of two charts of up to 84 slots with their tables
MACHINES, RUNS, HISTORY = 200, 2_000, 30_000
BUSY = 60  # machines that run something
USERS, SESSIONS, TEMPLATES = 120, 120, 400
GROUPS = tuple(Group(id=f"group-{n}", name=f"Rack {n}", labels={"rack": str(n)}) for n in range(8))

#: Pages as an administrator sees them, who is offered the most; `waits`, `runs` and `queued` are runs. Those without
#: anything in their address are held to it too.
PAGES = """
/
/queue
/queue?first=1900
/queue?view=stuck
/queue?group=group-3
/queue?named=1
/queue/add?kind=boot&group=group-3
/queue/edit/{queued}
/machines
/machines?first=150
/machines?state=running
/machines?named=m-1&group=group-1
/machines/m-17
/machines/m-190
/find
/find?q=m
/runs/{waits}
/runs/{runs}
/builds
/builds?first=20
/builds/compare?source=lab/firmware&old=v18&new=v19
/history
/history?q=outcome:failed
/history/charts?over=1h
/history/charts?over=24h
/history/charts?over=7d
/history/charts?over=30d
/templates
/templates?first=360
/sessions
/sessions?view=mine&first=50
/lab
/account
/users
/users?first=100&tokens=100
/users?named=1&user=user-1
/audit
/audit?action=user
""".strip().splitlines()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    """A large lab, with the user `ada`."""
    async with service(tmp_path, pages=True) as running:
        await running.added("ada", Role.ADMIN, password="correct horse battery")
        database = Database(tmp_path / "journal.db")
        make_history(database.engine, HISTORY, began=time.time() - YEAR)
        make_steps(database.engine, time.time() - YEAR / 12)
        database.engine.dispose()
        await _with_groups(running)
        await _with_runs(running)
        await _with_people(running)
        yield running


async def _with_groups(lab: ServiceBench) -> None:
    bench = lab.bench
    for number, group in zip(range(MACHINES), cycle(GROUPS), strict=False):
        address = Identity(KnownBy.ADDRESS, f"127.3.0.{number + 1}")
        labels = {**group.labels, "arch": "x86_64", "memory": "64", "gpu": ""}
        bench.lab.queue.machines.declare(f"m-{number}", address, labels=labels)
    one = bench.workload("template.efi")
    made = [
        Template(id=f"template-{n}", group=group.id, workload=replace(one, name=f"test-{n}.efi"), description="nightly")
        for n, group in zip(range(TEMPLATES), cycle(GROUPS), strict=False)
    ]
    await bench.lab.group_service.configure(GROUPS, made)


async def _with_runs(lab: ServiceBench) -> None:
    """Have runs wait in all groups, and some run."""
    bench = lab.bench
    one = bench.workload("a.efi")
    named = [
        replace(one, name=f"host-ubuntu-25.04-{n}.efi", group=group.id)
        for n, group in zip(range(RUNS + BUSY), cycle(GROUPS), strict=False)
    ]
    await bench.submit(*named, policy=Policy(limits={"assign": 600.0, "boot": 600.0, "report": 600.0}))
    for number in range(BUSY):
        for method in ("GET", "POST"):
            assert (await bench.call(method, source=f"127.3.0.{number + 1}")).status == 200
    await lab.ask("POST", "/machines/m-190/hold", HoldWanted(reason="its fan is loud"))


async def _with_people(lab: ServiceBench) -> None:
    for number in range(USERS):
        assert (await lab.ask("POST", "/users", NewUser(name=f"user-{number}", role=Role.OPERATOR))).status == 201
        await lab.token(f"user-{number}")
    for number in range(SESSIONS):
        opened = await lab.ask(
            "POST",
            "/sessions",
            OpenSession(source=f"lab/firmware@v{number}", policy=Policy()),
            token=lab.secrets["ada"],
        )
        assert opened.status == 201


#: Pages that are asked for without anything in their address; a file is none.
BARE = [
    route.path
    for route in PAGE_ROUTES
    if route.method == "GET" and "{" not in route.path and not route.path.endswith(".csv")
]


def nodes(text: str) -> int:
    """Return how many nodes a browser makes of a page: elements and texts."""
    tree = html5lib.parse(text, namespaceHTMLElements=False)
    return sum(1 + bool(each.text) + bool(each.tail) for each in tree.iter())


def _runs(lab: ServiceBench) -> Iterator[tuple[str, str]]:
    """Yield a run that waits and one that runs, by the word that stands for them."""
    for word, busy in (("waits", False), ("runs", True)):
        yield word, next(run.id for run in lab.bench.lab.queue.runs.values() if bool(run.attempt.machine) is busy)


async def test_no_page_of_a_large_lab_is_long(lab: ServiceBench) -> None:
    visitor, runs = await signed_in(lab, "ada"), dict(_runs(lab))
    runs["queued"] = (await lab.ask("POST", "/groups/group-0/queue", QueueWanted(template="template-0"))).json["id"]
    long = dict[str, tuple[int, int]]()
    for path in dict.fromkeys((*PAGES, *BARE)):
        reply = await visitor.ask("GET", path.format(**runs))
        assert reply.status == 200, path
        size, most = (len(reply.body), nodes(reply.text)), CHARTS if "charts" in path else (MOST_BYTES, MOST_NODES)
        if size[0] >= most[0] or size[1] >= most[1]:
            long[path] = size
    assert not long


async def test_pages_of_a_list_have_all_of_it_once(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "ada")
    for path, prefix, count in (
        ("/machines", "m-", MACHINES),
        ("/machines?state=running", "m-", BUSY),
        ("/sessions", "s-", SESSIONS + 1),
        ("/users", "user-", USERS + 1),
        ("/users", "token-", USERS + 1),
    ):
        found = await _all(visitor, path, prefix, tokens=prefix == "token-")
        assert (len(found), len(set(found))) == (count, count), path


async def _all(visitor: Visitor, path: str, prefix: str, *, tokens: bool) -> list[str]:
    """Return the rows of all pages of a list."""
    found, next_page = list[str](), path
    while next_page:
        page = await visitor.see(next_page)
        found += [each["id"] for each in page.all("tr") if each.get("id", "").startswith(prefix)]
        next_page = _next(page, tokens=tokens)
    return found


def _next(page: SeenPage, *, tokens: bool) -> str:
    nexts = [each["href"] for each in page.all("a") if each.get("rel") == "next"]
    return next((each.partition("#")[0] for each in nexts if each.endswith("#tokens-title") is tokens), "")
