"""The EFI programs that are committed as bytes are those that their source makes."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from docs_examples import PACKAGE, ROOT
from project import SUPPORT

FIRMWARE = PACKAGE / "firmware"
EXAMPLES = ROOT / "examples"
X64, AARCH64 = 0x8664, 0xAA64

#: Every committed program, and the processor that it is for (PE format, "Machine Types").
PROGRAMS = {
    **{FIRMWARE / f"{name}-x64.efi": X64 for name in ("poweroff", "wait")},
    **{FIRMWARE / f"{name}-aa64.efi": AARCH64 for name in ("poweroff", "wait")},
    **{
        EXAMPLES / folder / f"{name}.efi": machine
        for folder, machine in (("demo", X64), ("demo-aarch64", AARCH64))
        for name in ("pass", "fail", "hang", "come-back", "no-beacon")
    },
}
#: Where the Makefiles are, and which folder their `OUT=` stands for.
MAKEFILES = {FIRMWARE / "src": FIRMWARE, EXAMPLES / "workloads": EXAMPLES}


needs_sources = pytest.mark.skipif(not (ROOT / "src").exists(), reason="the sources are not here: see the job 'wheel'")


def each(programs: dict[Path, int]) -> list[object]:
    return [pytest.param(path, id=f"{path.parent.name}/{path.name}") for path in programs]


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def compiler() -> str:
    """What clang and lld-link say of themselves."""
    if missing := [tool for tool in ("clang", "lld-link", "make") if shutil.which(tool) is None]:
        pytest.skip(f"{', '.join(missing)} not found: apt install clang lld make")
    return output_of("clang", "--version") + output_of("lld-link", "--version")


@pytest.fixture(scope="module")
def rebuilt(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """Every committed program, and where it was built anew."""
    locations: dict[Path, Path] = {}
    for source, committed in MAKEFILES.items():
        out = tmp_path_factory.mktemp("efi")
        output_of("make", "--silent", "-C", str(source), f"OUT={out}")
        locations |= {committed / built.relative_to(out): built for built in out.rglob("*.efi")}
    return locations


@needs_sources
@pytest.mark.draw(1, of="builds")
def test_the_makefiles_build_what_is_committed_and_nothing_else(rebuilt: dict[Path, Path]) -> None:
    committed = {path for folder in MAKEFILES.values() for path in folder.glob("**/*.efi")}
    committed = {path for path in committed if "build" not in path.parts}
    assert committed == set(rebuilt) == set(PROGRAMS)


@needs_sources
@pytest.mark.parametrize("program", each(PROGRAMS))
def test_rebuilding_gives_the_committed_bytes(program: Path, rebuilt: dict[Path, Path], compiler: str) -> None:
    wanted = re.search(r"EFI_BUILT_WITH := (\S+)", (FIRMWARE / "src/efi.mk").read_text())
    assert wanted is not None
    found = re.findall(r"(?:clang version|LLD) ([0-9.]+)", compiler)
    if found != [wanted[1]] * 2:
        pytest.skip(f"built with clang and lld {wanted[1]} (Debian 12); here they are {found}")
    assert rebuilt[program].read_bytes() == program.read_bytes()


@needs_sources
@pytest.mark.parametrize("program", each(PROGRAMS))
def test_a_rebuilt_program_is_for_the_same_machine(program: Path, rebuilt: dict[Path, Path]) -> None:
    assert header(rebuilt[program].read_bytes()) == header(program.read_bytes())


@pytest.mark.parametrize("program", each(PROGRAMS))
def test_a_committed_program_is_one_that_firmware_starts(program: Path) -> None:
    # Subsystem 10 is "EFI application"; a time in it would make each build a different one.
    assert header(program.read_bytes()) == {
        "machine": PROGRAMS[program],
        "time": 0,
        "magic": 0x20B,
        "subsystem": 10,
    }


@pytest.mark.parametrize("program", each(PROGRAMS))
def test_a_committed_program_is_small(program: Path) -> None:
    assert 1024 < program.stat().st_size < 16 * 1024


@needs_sources
def test_without_the_sources_the_installed_programs_are_looked_at(tmp_path: Path) -> None:
    """As the job `wheel` does."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    for name in (Path(__file__), SUPPORT / "docs_examples.py", SUPPORT / "project.py"):
        copy = tmp_path / name.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, copy)
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-c", "/dev/null", "-p", "no:cacheprovider"]
    command += ["-o", f"pythonpath={tmp_path / 'tests/support'}"]
    shown = output_of(*command, f"--rootdir={tmp_path}", str(tmp_path / "tests"))
    assert re.search(rf"\n{2 * len(PROGRAMS) + 1} passed, {2 * len(PROGRAMS) + 2} skipped", shown), shown


def test_both_demos_say_the_same_of_their_workloads() -> None:
    manifests = [EXAMPLES / folder / "dispatch.toml" for folder in ("demo", "demo-aarch64")]
    assert manifests[0].read_text() == manifests[1].read_text()


def header(image: bytes) -> dict[str, int]:
    """What firmware looks at before it starts an image (PE format, sections 2 to 4)."""
    assert image[:2] == b"MZ"
    (start,) = struct.unpack_from("<I", image, 0x3C)
    assert image[start : start + 4] == b"PE\0\0"
    machine, _sections, time = struct.unpack_from("<HHI", image, start + 4)
    (magic,) = struct.unpack_from("<H", image, start + 24)
    (subsystem,) = struct.unpack_from("<H", image, start + 24 + 68)
    return {"machine": machine, "time": time, "magic": magic, "subsystem": subsystem}
