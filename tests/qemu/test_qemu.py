"""Machines that QEMU plays, with real firmware, real EFI programs and a real server."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from qemu_bench import RESUMED, TOKEN, QemuBench, bench, emulators, ending, machines
from waiting import PATIENCE, until, wait_until

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.machines.qemu.board import X86_64
from pytest_dispatch.machines.qemu.driver import Options, QemuMachine, build_for
from pytest_dispatch.machines.qemu.saved_state import SavedState
from pytest_dispatch.testing.boot_server import POWEROFF, RESET, BootServer, Offer
from pytest_dispatch.testing.efi import assemble
from pytest_dispatch.testing.machine_contract import reading

pytestmark = [pytest.mark.anyio, pytest.mark.qemu, pytest.mark.usefixtures("x86_64")]
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# pvpanic-pci is device 2 of bus 0: give it an address, turn its memory on, write "panicked" there, wait
PANIC = bytes.fromhex(
    "66baf80c b810100080 ef b2fc b8000001c0 ef"  # out 0xcf8, first base address; out 0xcfc, 0xc0010000
    "b2f8 b804100080 ef b2fc ed 83c802 ef"  # out 0xcf8, command register; in 0xcfc; or 2; out 0xcfc
    "b8000001c0 c60001 ebfe"  # mov eax, 0xc0010000; mov byte [rax], 1; jmp here
)


async def test_it_boots_shows_its_console_and_boots_again_until_it_powers_itself_off(tmp_path: Path) -> None:
    async with bench(tmp_path, ending("reset", "Good morning"), RESET, POWEROFF) as here:
        await here.start()
        await here.off()
    assert here.methods == "HEAD GET HEAD GET HEAD GET"
    assert here.texts.count("The machine was reset") == 2
    assert here.texts[-1] == "The machine powered itself off"
    assert "Good morning" in here.texts
    assert here.faults == []
    shown = "".join(here.texts)
    assert "URI: http://10.0.2.2:" in shown, "firmware shows what it boots"
    assert TOKEN not in shown


async def test_a_second_session_begins_at_the_saved_firmware_of_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        async with bench(tmp_path, POWEROFF) as here:
            await here.start()
            await here.off()
    assert here.texts[0] == RESUMED
    assert [asked.machine for asked in here.server.asked] == [TOKEN, TOKEN]


async def test_two_machines_run_side_by_side(tmp_path: Path) -> None:
    first, second = machines(tmp_path, 2)
    async with BootServer(RESET).open() as server, reading(first.console) as one, reading(second.console) as two:
        try:
            await first.boot_from(lambda: server.url("token-1"))
            await second.boot_from(lambda: server.url("token-2"))
            await asyncio.gather(first.on(), second.on())
            await server.until(lambda: {asked.machine for asked in server.of("GET")} == {"token-1", "token-2"})
            await until(lambda: all(any(sign.text == "Hello" for sign in signs) for signs in (one, two)))
        finally:
            await asyncio.gather(first.off(), second.off())
    await asyncio.gather(first.until_off(), second.until_off())


async def test_a_server_that_takes_three_seconds_for_head_is_waited_for(tmp_path: Path) -> None:
    slow = Offer(programs=POWEROFF.programs, delay=3.0)
    async with bench(tmp_path, slow) as here:
        await here.start()
        await here.off()
    assert here.methods == "HEAD GET"
    assert here.faults == []


@pytest.mark.parametrize(
    ("offer", "fault"),
    [
        (ending("crash"), "EFI exception 06(#UD - Invalid Opcode)"),
        (ending("abort"), "the EFI program returned an error (Aborted)"),
        (ending("return"), "firmware went on to its setup screen (UiApp)"),
        (ending("hang", "Kernel panic - not syncing: no init"), "kernel panic: no init"),
        (Offer(programs={"x64": assemble(PANIC)}), "kernel panic (told over pvpanic)"),
        (Offer(programs={"x64": b"no program"}), "firmware could not load what it was given (Not Found)"),
        (
            Offer(programs={}, status=404),
            "firmware was answered with an error (Client Error: 404 Not Found)",
        ),
        (
            Offer(programs={}, status=503),
            "firmware was answered with an error (Server Error: 503 Service Unavailable)",
        ),
        (
            Offer(programs={}, status=302, headers={"Location": "/elsewhere"}),
            "firmware was redirected, which it does not follow (Redirection: 302 Found)",
        ),
    ],
)
async def test_a_fault_is_named_and_the_machine_waits_for_the_lab(tmp_path: Path, offer: Offer, fault: str) -> None:
    async with bench(tmp_path, offer, POWEROFF) as here:
        await here.start()
        sign = await here.fault()
        assert sign.fault == fault
        assert not sign.lab, "whose fault it is depends on what came before"
        assert await here.is_on()
        await here.machine.off()
        await here.start()
        await here.off()
    assert here.texts[-1] == "The machine powered itself off"


async def test_a_url_that_firmware_cannot_take_is_refused_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path, POWEROFF) as here:
        with pytest.raises(MachineError, match="expected a boot URL of at most 255 ASCII characters"):
            await here.boot(f"http://127.0.0.1/{'x' * 255}?machine={TOKEN}")
        assert not await here.is_on()


async def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with bench(tmp_path, POWEROFF) as here:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # and does not listen: nobody else can, either
            url = f"http://127.0.0.1:{closed.getsockname()[1]}/dispatch?machine={TOKEN}"
            await here.boot(url)
            sign = await here.fault()
    assert sign.fault.startswith("firmware got no answer that it can use (Could not retrieve NBP file size")


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_qemu_that_is_killed_is_a_fault_of_the_lab(tmp_path: Path, number: signal.Signals) -> None:
    async with bench(tmp_path, ending("hang")) as here:
        await here.start()
        await until(lambda: "Hello" in here.texts)
        [pid] = emulators()
        os.kill(pid, number)
        await here.off()
    [sign] = here.faults
    assert sign.lab
    assert sign.fault.startswith(
        ("QEMU was killed from outside (SIGKILL)", "QEMU was ended from outside (host-signal)")
    )


@linux
async def test_it_runs_in_a_session_of_its_own(tmp_path: Path) -> None:
    """Else a terminal's Ctrl-C would reach it."""
    async with bench(tmp_path, ending("hang")) as here:
        await here.start()
        [pid] = emulators()
        assert os.getsid(pid) == pid != os.getsid(0)


@linux
@pytest.mark.parametrize("moment", ["at once", "in a start", "while it waits for an offer", "when it hangs"])
async def test_stop_leaves_no_process_whenever_it_comes(tmp_path: Path, moment: str) -> None:
    async with bench(tmp_path, ending("hang")) as here:
        if moment == "in a start":
            starting = asyncio.create_task(here.start())
            await until(lambda: bool(emulators()))
            starting.cancel()
            await asyncio.wait([starting])
        else:
            await here.start()
        if moment == "while it waits for an offer":
            await until(lambda: bool(here.texts))
        if moment == "when it hangs":
            await until(lambda: "Hello" in here.texts)
        async with asyncio.timeout(PATIENCE):
            await here.machine.off()
        assert not await here.is_on()
        assert emulators() == []


async def test_a_stop_during_a_start_is_an_error_of_that_start(tmp_path: Path) -> None:
    async with bench(tmp_path, ending("hang")) as here:
        starting = asyncio.create_task(here.start())
        await asyncio.sleep(0.01)
        await here.machine.off()
        with pytest.raises(MachineError, match="it was powered off while it was being powered on"):
            await starting
        assert not await here.is_on()


PARENT = """
import asyncio, sys
from pathlib import Path
from pytest_dispatch.machines.base import Spec
from pytest_dispatch.machines.qemu.driver import create

async def main():
    [machine] = create(Spec(scheme="qemu"), Path(sys.argv[1]))
    await machine.boot.boot_from(lambda: "http://127.0.0.1:1/dispatch")
    await machine.power.on()
    print("on", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@linux
def test_it_dies_with_a_process_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"on\n"
            wait_until(lambda: using(tmp_path))  # QEMU has its log open
        finally:
            parent.kill()
    asyncio.run(until(lambda: not using(tmp_path)))


def using(folder: Path) -> list[str]:
    """The processes that have a file of a folder open."""
    return [links.parent.name for links in Path("/proc").glob("[0-9]*/fd") if _in_use_by(links, folder)]


def _in_use_by(links: Path, folder: Path) -> bool:
    try:
        return any(folder in link.readlink().parents for link in links.iterdir())
    except OSError:
        return False  # it has just ended, or closed a file


async def test_a_firmware_that_qemu_does_not_take_is_told_in_its_words(tmp_path: Path) -> None:
    for name in ("code.fd", "vars.fd"):
        (tmp_path / name).write_bytes(b"too small")
    options = {"code": str(tmp_path / "code.fd"), "vars": str(tmp_path / "vars.fd")}
    async with bench(tmp_path, POWEROFF, **options) as here:
        with pytest.raises(MachineError, match=r"QEMU ended by itself with status 1; it said .*(size|bytes)"):
            await here.start()
        assert not await here.is_on()


ONCE = """#!/bin/sh
test -e {0} && echo "no memory left" >&2 && exit 1
touch {0}
exec {1} "$@"
"""


async def test_a_qemu_that_does_not_start_again_after_a_reset_is_a_fault_of_the_lab(tmp_path: Path) -> None:
    async with bench(tmp_path, POWEROFF) as here:  # now there is saved firmware
        await here.start()
        await here.off()
    build = build_for(X86_64, Options())
    once = tmp_path / "qemu"
    once.write_text(ONCE.format(tmp_path / "flag", build.binary))
    once.chmod(0o755)
    states = last_used(Path(os.environ["XDG_CACHE_HOME"]) / "pytest-dispatch/firmware-state")
    build = dataclasses.replace(build, binary=once)
    machine = QemuMachine(build, states=states, saved=True, log=tmp_path / "log")
    async with BootServer(RESET).open() as server, reading(machine.console) as signs:
        await machine.boot_from(lambda: server.url(TOKEN))
        await machine.on()
        async with asyncio.timeout(PATIENCE):
            await machine.until_off()
        await asyncio.sleep(0.002)
    assert signs[-1].fault == "QEMU ended by itself with status 1; it said 'no memory left'"
    assert signs[-1].lab


@pytest.fixture
async def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved state in a cache of its own."""
    async with bench(tmp_path, POWEROFF) as here:
        await here.start()
        await here.off()
    folder = last_used(Path(os.environ["XDG_CACHE_HOME"]) / "pytest-dispatch/firmware-state")
    own = tmp_path / "cache" / "pytest-dispatch/firmware-state" / folder.name
    shutil.copytree(folder, own)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return own


def last_used(states: Path) -> Path:
    return max(states.glob("*/state.json"), key=lambda note: note.stat().st_mtime_ns).parent


async def boots_in_spite(here: QemuBench, folder: Path, why: str) -> None:
    before = (folder / "state.json").read_bytes()
    await here.start()
    await here.off()
    assert here.methods == "HEAD GET"
    assert here.faults == [], "nothing that the lab has to do anything about"
    assert any(why in text for text in here.texts if text.startswith("The saved firmware did not work (")), here.texts
    assert (folder / "state.json").read_bytes() != before, "saved anew"
    assert len(images(folder)) == 1


def images(folder: Path) -> list[Path]:
    return list(folder.glob("*.qemu"))


async def test_a_state_that_cannot_be_loaded_is_made_anew(tmp_path: Path, saved: Path) -> None:
    [image] = images(saved)
    image.write_bytes(bytes(image.stat().st_size))
    async with bench(tmp_path, POWEROFF) as here:
        await boots_in_spite(here, saved, "QEMU")


async def test_a_state_whose_firmware_does_not_go_on_is_made_anew(tmp_path: Path, saved: Path) -> None:
    note = saved / "state.json"
    state = msgspec.json.decode(note.read_bytes(), type=SavedState)
    frame = bytearray(state.discover)
    frame[46] ^= 0xFF  # another transaction: the firmware will not take our offer for its own
    note.write_bytes(msgspec.json.encode(msgspec.structs.replace(state, discover=bytes(frame), slack=0.1)))
    async with bench(tmp_path, POWEROFF) as here:
        await boots_in_spite(here, saved, "firmware asks once more")


async def test_where_nothing_can_be_saved_it_boots_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    async with bench(tmp_path, POWEROFF) as here:
        await here.start()
        await here.off()
    assert here.methods == "HEAD GET"
    assert here.faults == []
    [told] = [text for text in here.texts if text.startswith("Firmware is not saved")]
    assert "expected to save firmware in" in told


async def test_a_moment_that_was_missed_is_tried_earlier_and_costs_no_boot(tmp_path: Path, saved: Path) -> None:
    note = saved / "state.json"
    state = msgspec.json.decode(note.read_bytes(), type=SavedState)
    note.write_bytes(msgspec.json.encode(msgspec.structs.replace(state, slack=4.0, tries=0)))  # far too much
    async with bench(tmp_path, POWEROFF) as here:
        await here.start()
        await here.off()
    assert here.methods == "HEAD GET"
    assert here.faults == []
    assert here.texts.count(RESUMED) > 1
    after = msgspec.json.decode(note.read_bytes(), type=SavedState)
    assert after.slack < 4.0
    assert after.tries > 0


CRAMPED = """#!/bin/sh
ulimit -f 2000
exec {0} "$@"
"""


async def test_firmware_that_cannot_be_saved_boots_all_the_same(tmp_path: Path) -> None:
    build = build_for(X86_64, Options())
    cramped = tmp_path / "qemu"
    cramped.write_text(CRAMPED.format(build.binary))
    cramped.chmod(0o755)
    build = dataclasses.replace(build, binary=cramped)
    machine = QemuMachine(build, states=tmp_path / "states", saved=True, log=tmp_path / "log")
    async with BootServer(POWEROFF).open() as server, reading(machine.console) as signs:
        await machine.boot_from(lambda: server.url(TOKEN))
        await machine.on()
        async with asyncio.timeout(PATIENCE):
            await machine.until_off()
        await asyncio.sleep(0.002)
    [told] = [sign.text for sign in signs if sign.text.startswith("Firmware is not saved")]
    assert "expected 'migrate' to complete, but QEMU says 'failed'; it said " in told
    assert signs[-1].text == "The machine powered itself off"
    assert not [sign for sign in signs if sign.fault]
    assert images(tmp_path / "states") == []
