"""The EFI programs of the package and of the examples do under real firmware what they are there for."""

from __future__ import annotations

import asyncio
import re
import struct
from pathlib import Path

import pytest
from qemu_bench import bench, bytes_of
from waiting import until

from pytest_dispatch.testing.boot_server import POWEROFF, Offer

ROOT = Path(__file__).parent.parent.parent
FIRMWARE = ROOT / "src/pytest_dispatch/firmware"
EXAMPLES = {"x64": ROOT / "examples/demo", "aa64": ROOT / "examples/demo-aarch64"}

pytestmark = [pytest.mark.anyio, pytest.mark.qemu]
both = pytest.mark.parametrize("arch", ["x64", "aa64"])


@pytest.fixture(autouse=True)
def _qemu(request: pytest.FixtureRequest) -> None:
    arch = request.node.callspec.params.get("arch", "x64") if hasattr(request.node, "callspec") else "x64"
    request.getfixturevalue("aarch64" if arch == "aa64" else "x86_64")


@both
async def test_the_power_off_program_powers_off(tmp_path: Path, arch: str) -> None:
    async with bench(tmp_path, bytes_of(FIRMWARE / f"poweroff-{arch}.efi", arch), arch=arch) as here:
        await here.start()
        await here.off()
    assert here.methods == "HEAD GET"
    assert here.faults == []


def in_a_moment(wait: bytes, arch: str) -> bytes:
    """The wait program with its minute (600,000,000 times 100 ns, 0x23C34600) made milliseconds."""
    if arch == "x64":
        minute, moment = re.escape(struct.pack("<I", 600_000_000)), struct.pack("<I", 50_000)
    else:  # the upper half is put in by a MOVK instruction, whose register and width may differ
        minute, moment = rb"[\x60-\x7f]\x78\xa4[\x72\xf2]", struct.pack("<I", 0xD503201F)  # NOP
    short, count = re.subn(minute, moment.replace(b"\\", rb"\\"), wait, flags=re.DOTALL)
    assert count >= 1
    return short


@both
async def test_the_wait_program_waits_and_resets(tmp_path: Path, arch: str) -> None:
    wait = in_a_moment((FIRMWARE / f"wait-{arch}.efi").read_bytes(), arch)
    async with bench(tmp_path, Offer(programs={arch: wait}), POWEROFF, arch=arch) as here:
        await here.start()
        await here.off()
    assert here.methods == "HEAD GET HEAD GET"
    # what the firmware wrote last may have no end of its line
    assert "dispatch: nothing to run now, asking again in a minute" in "\n".join(here.texts)
    assert here.faults == []


@both
@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("pass", "HEAD GET POST PUT"),
        ("fail", "HEAD GET POST PUT"),
        ("come-back", "HEAD GET POST"),
        ("no-beacon", "HEAD GET"),
    ],
)
async def test_an_example_speaks_and_comes_back(tmp_path: Path, arch: str, name: str, methods: str) -> None:
    async with bench(tmp_path, bytes_of(EXAMPLES[arch] / f"{name}.efi", arch), POWEROFF, arch=arch) as here:
        await here.start()
        await here.off()
    assert here.methods == f"{methods} HEAD GET"
    assert {asked.machine for asked in here.server.asked} == {here.server.asked[0].machine}
    assert here.faults == []


async def test_the_hanging_example_hangs_until_it_is_stopped(tmp_path: Path) -> None:
    async with bench(tmp_path, bytes_of(EXAMPLES["x64"] / "hang.efi")) as here:
        await here.start()
        await until(lambda: here.methods == "HEAD GET POST")
        await asyncio.sleep(0.5)
        assert here.methods == "HEAD GET POST"
        assert await here.is_on()
        assert here.faults == []
