"""The page Find: what it finds, for whom, and how much of it at most."""

from __future__ import annotations

from dataclasses import replace

import pytest
from past_runs import runs_through
from service_bench import ServiceBench
from visitors import SeenPage, Visitor, signed_in

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.machine import Identity
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.core.templates import Template
from pytest_dispatch.server.web.find_page import MOST

pytestmark = pytest.mark.anyio

HOSTILE = "<img src=x onerror=alert(1)>.efi"


def found(page: SeenPage) -> list[tuple[str, str]]:
    """What a page has found: what it is, and where it leads."""
    return [(each["data-found"], each["href"]) for each in page.all("a") if "data-found" in each]


async def test_everything_that_has_such_a_name_is_found(lab: ServiceBench) -> None:
    bench = lab.bench
    bench.lab.queue.machines.declare("boot-1", Identity(KnownBy.ADDRESS, "127.0.0.9"))
    await runs_through(bench, "booted.efi")
    [waiting] = await bench.submit(bench.workload("reboot.efi"))
    template = Template(id="boot-all", group="lab", workload=bench.workload("t.efi"))
    await bench.lab.group_service.configure([Group(id="booters")], [template])
    all_of_it = found(await (await signed_in(lab, "eve")).see("/find?q=BOOT"))
    assert ("machine", "/machines/boot-1") in all_of_it
    assert ("run", f"/runs/{waiting.id}") in all_of_it
    assert ("group", "/queue?group=booters") in all_of_it
    assert ("template", "/templates?named=boot-all&group=lab") in all_of_it
    assert ("search", "/history?q=BOOT") in all_of_it
    workloads = found(await (await signed_in(lab, "eve")).see("/find?q=boo"))
    assert ("workload", "/history?q=workload%3Abooted.efi") in workloads


async def test_pages_are_those_of_a_role(lab: ServiceBench) -> None:
    for name, there in (("ada", True), ("eve", False)):
        pages = found(await (await signed_in(lab, name)).see("/find"))
        assert {kind for kind, _ in pages} == {"page"}
        assert (("page", "/audit") in pages) is there
    assert found(await (await signed_in(lab, "eve")).see("/find?q=mach"))[0] == ("page", "/machines")


async def test_what_begins_with_it_comes_first_and_there_is_not_too_much(lab: ServiceBench) -> None:
    for number in range(2 * MOST):
        lab.bench.lab.queue.machines.declare(f"a-rack-{number:02}")
    lab.bench.lab.queue.machines.declare("rack-1")
    page = await (await signed_in(lab, "eve")).see("/find?q=rack")
    machines = [where for kind, where in found(page) if kind == "machine"]
    assert machines[0] == "/machines/rack-1"
    assert len(machines) == MOST


async def test_a_token_for_some_groups_finds_nothing_of_others(lab: ServiceBench) -> None:
    await runs_through(lab.bench, "secret.efi")
    [waiting] = await lab.bench.submit(lab.bench.workload("secret-too.efi"))
    token = await lab.token_elsewhere("bob")
    kinds = {kind for kind, _ in found(await Visitor(lab, token=token).see("/find?q=secret"))}
    assert kinds == {"search"}
    assert ("run", f"/runs/{waiting.id}") in found(await (await signed_in(lab, "bob")).see("/find?q=secret"))


async def test_a_name_is_text_and_so_is_what_is_looked_for(lab: ServiceBench) -> None:
    await lab.bench.submit(replace(lab.bench.workload("a.efi"), name=HOSTILE))
    page = await (await signed_in(lab, "eve")).see("/find?q=%3Cimg")
    assert not page.all("img")
    assert HOSTILE in page.text
    assert page.field("q") == "<img"


async def test_the_same_answer_is_sent_once(lab: ServiceBench) -> None:
    visitor = await signed_in(lab, "eve")
    first = await visitor.ask("GET", "/find?q=lab")
    again = await visitor.ask("GET", "/find?q=lab", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
