"""A lab to which somebody has sent texts that are to do harm, wherever it takes one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from hostile_texts import HOSTILE, named
from service_bench import PASSWORD, ServiceBench, service
from waiting import until

from pytest_dispatch.core.leases import LeaseKind
from pytest_dispatch.core.model import Outcome, Policy, Run
from pytest_dispatch.core.templates import Template
from pytest_dispatch.server.api.account_schemas import NewToken
from pytest_dispatch.server.api.group_schemas import HoldWanted
from pytest_dispatch.server.api.history_schemas import NoteWanted, OverrideWanted
from pytest_dispatch.server.api.schemas import LeaseWanted, OpenSession
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.web.page_routes import PAGE_ROUTES

MACHINE = "127.0.0.2"
WORD = "harm"  # is in every text, so that it is found where it is shown


def text_of(what: str) -> str:
    return f"{HOSTILE[what]} {WORD} {what}"


@dataclass
class Scene:
    """A lab to which somebody has sent all of it, wherever it takes a text.

    Attributes:
        ended: A run of each text that a machine has run.
        edited: Runs of templates of these texts, which are called otherwise.
    """

    lab: ServiceBench
    ended: dict[str, Run]
    edited: list[str] = field(default_factory=list)

    def pages(self) -> Iterator[str]:
        """Every page that there is, and every way in which an address itself holds a text."""
        for route in PAGE_ROUTES:
            if route.method == "GET" and not route.path.startswith("/static"):
                yield from self._addresses(route.path)

    def _addresses(self, path: str) -> Iterator[str]:
        texts = [quote(text_of(what), safe="") for what in HOSTILE]
        if path == "/runs/{run}":
            yield from (f"/runs/{run.id}" for run in self.ended.values())
        elif path == "/queue/edit/{run}":
            yield from (f"/queue/edit/{run}" for run in self.edited)
        elif path == "/machines/{machine}":
            yield f"/machines/{MACHINE}"
        elif "{" not in path:
            yield path
        for place, text in enumerate(texts[:: max(1, len(texts) // 6)]):
            name = ("q", "named", "who", "next", "user", "since", "group", "view", "source")[place % 9]
            yield re.sub(r"\{\w+\}", text, path) + (f"?{name}={text}" if "{" not in path else "")
        if "{" not in path:
            yield f"{path}?" + "&".join(f"{name}={texts[4]}" for name in ("q", "named", "who", "next", "user", "group"))


@asynccontextmanager
async def hostile_lab(folder: Path) -> AsyncIterator[Scene]:
    """A lab that has all of it, and an administrator `ada`."""
    async with service(folder, pages=True) as lab:
        await lab.added("ada", Role.ADMIN, password=PASSWORD)
        found = Scene(lab, {what: await ran(lab, what) for what in HOSTILE})
        await wait(lab)
        found.edited += [await edited(lab, what) for what in HOSTILE]
        await told(lab)
        lab.bench.clock.ahead += 120.0  # no limit on how often one may sign in is reached
        yield found


async def ran(lab: ServiceBench, what: str) -> Run:
    """Let a machine run a workload of this name, and say it in every way it can."""
    bench, text = lab.bench, text_of(what)
    workload = replace(bench.workload(f"{what}.efi"), name=named(f"{text}.efi"))
    [run] = await bench.submit(workload)
    await bench.call("HEAD")
    await bench.download(run)
    assert (await bench.call("POST")).status == 200
    bench.lab.console.shown(MACHINE, f"{text}\n")
    case = {"name": text, "outcome": "failed", "message": text}
    said = await bench.report(title=text[:200], body=text, cases=[case], labels=[text[:60]])
    assert said.status == 200, said.text
    await bench.call("HEAD")
    await until(lambda: bench.now(run).outcome is not None)
    for path, body in (
        ("notes", NoteWanted(text=text)),
        ("override", OverrideWanted(outcome=Outcome.PASSED, reason=text[:500])),
    ):
        reply = await lab.ask("POST", f"/runs/{run.id}/{path}", body)
        assert reply.status in (200, 201), reply.text
    return run


async def wait(lab: ServiceBench) -> None:
    """Have runs of these names wait, and held for these reasons; have groups offer them."""
    bench = lab.bench
    await lab.ask("POST", f"/machines/{MACHINE}/hold", HoldWanted(reason=text_of("spoofed-page")))
    workloads = [replace(bench.workload(f"w-{what}.efi"), name=named(text_of(what))) for what in HOSTILE]
    for run in await bench.submit(*workloads):
        await lab.ask("POST", f"/runs/{run.id}/hold", HoldWanted(reason=run.workload.name))
    templates = [
        Template(
            id=f"t-{what}", group="lab", workload=replace(bench.workload(f"t-{what}.efi"), name=named(text_of(what)))
        )
        for what in HOSTILE
    ]
    await bench.lab.group_service.configure((), templates)


async def edited(lab: ServiceBench, what: str) -> str:
    """Queue a run of such a template, and have it be something else; returns its id."""
    run: str = (await lab.ask("POST", "/groups/lab/queue", {"template": f"t-{what}"})).json["id"]
    changes = {"name": "another", "labels": [text_of(what)[:200]]}
    reply = await lab.ask("PATCH", f"/runs/{run}", changes)
    assert reply.json["differs"]["name"] == named(text_of(what)), reply.text
    return run


async def told(lab: ServiceBench) -> None:
    """Write it into names of holders, of tokens, and of who tries to sign in; into the reason why nothing begins."""
    for what in HOSTILE:
        text = text_of(what)
        lease = LeaseWanted(kind=LeaseKind.DETACHED, owner=text[:200])
        await lab.ask("POST", "/sessions", OpenSession(source=text[:200], policy=Policy(), lease=lease))
        await lab.ask("POST", "/tokens", NewToken(label=named(text), user="ada"))
        lab.bench.clock.ahead += 10.0
        assert (await lab.sign_in(text[:100])).status == 401
    await lab.ask("POST", "/hold", HoldWanted(reason=text_of("redirect")))
