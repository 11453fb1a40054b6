"""`--dispatch-machine maas://…`: pytest's lab has MAAS power a machine, which boots the lab's URL by itself."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from plugin_bench import APART, Bench

from pytest_dispatch.machines.sim.driver import SimMachine
from pytest_dispatch.testing.maas import FakeMaas, FakeNode

SECRET = "s3cr3tofmaas"
ADDRESS = "127.0.0.7"


async def _boots(node: FakeNode, url: str, over: threading.Event) -> None:
    """Play the firmware of a machine whose power a MAAS controls."""
    sim = SimMachine(pace=0.001, boot=0.01, source=ADDRESS)
    await sim.boot_from(lambda: url)
    while not over.is_set():
        if node.power == "on":
            await sim.on()
            itself = asyncio.create_task(sim.until_off())
            while node.power == "on" and not itself.done() and not over.is_set():  # noqa: ASYNC110 - it is set by a thread
                await asyncio.sleep(0.01)
            if itself.done():
                node.power = "off"
            await sim.off()
            await itself
        await asyncio.sleep(0.01)


@contextmanager
def booting(node: FakeNode, url: str) -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_boots(node, url, over)), name="the firmware of node-7")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def maas(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMaas]:
    with FakeMaas(key=f"consumer:token:{SECRET}", speed=500) as maas:
        monkeypatch.setenv("MAAS_URL", maas.url)
        monkeypatch.setenv("MAAS_API_KEY", maas.key)
        yield maas


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_machine_of_maas_is_deployed_boots_what_there_is_and_is_released(
    bench: Bench, maas: FakeMaas, port: int
) -> None:
    bench.workloads({"a": "pass", "b": "fail"})
    node = maas.add_machine("node-7")
    spec = f"--dispatch-machine=maas://node-7?address={ADDRESS}&deploy=noble&every=1"
    with booting(node, f"http://127.0.0.1:{port}/dispatch"):
        result = bench.spawn(APART, f"--dispatch-bind=127.0.0.1:{port}", "-v", machines=spec)
    result.stdout.fnmatch_lines(["*w::a.efi*PASSED*", "*w::b.efi*FAILED*"])
    assert "node-7" in result.stdout.str()
    assert SECRET not in result.stdout.str() + result.stderr.str()
    assert (node.owner, node.comment) == ("", "pytest-dispatch"), "it was deployed by the lab, and is given back"


def test_a_machine_that_maas_does_not_power_is_an_error_with_its_reason(bench: Bench, maas: FakeMaas) -> None:
    bench.workloads({"a": "pass"})
    maas.add_machine("node-7", status=21)
    result = bench.spawn(APART, machines=f"--dispatch-machine=maas://node-7?address={ADDRESS}&every=1")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no machine is left: node-7: node-7 is Testing in MAAS; expected it to be Deployed*"])
    assert SECRET not in result.stdout.str() + result.stderr.str()
