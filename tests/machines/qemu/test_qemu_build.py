"""What a SPEC of QEMU machines asks for, what is missing for it, and which URL such a machine boots."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from pytest_dispatch.core.errors import ConfigError, MachineError
from pytest_dispatch.machines.base import Spec
from pytest_dispatch.machines.qemu.board import AARCH64, X86_64, Board, Build, Firmware, find_firmware
from pytest_dispatch.machines.qemu.driver import Options, build_for, create, read_options, url_for

BOARDS = pytest.mark.parametrize("board", [X86_64, AARCH64], ids=lambda board: board.name)
NONE = ("", "")


def spec(**options: str) -> Spec:
    return Spec(scheme="qemu", options=tuple(options.items()), text="qemu?…")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"firmware")
    return path


def script(folder: Path, name: str, text: str) -> dict[str, str]:
    """An environment in which a program of that name is found."""
    program = touch(folder / name)
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return {"PATH": str(folder)}


# Options


def test_without_options_there_are_defaults() -> None:
    assert read_options(spec()) == Options(memory=512, accel="tcg", code="", vars="", saved=True)


def test_options_are_read() -> None:
    given = spec(memory="1024", accel="kvm", code="/code.fd", vars="/vars.fd", saved="off")
    assert read_options(given) == Options(memory=1024, accel="kvm", code="/code.fd", vars="/vars.fd", saved=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"colour": "red"}, "unknown option 'colour'; qemu knows memory, accel, code, vars, saved"),
        ({"memory": "1G"}, "expected a number from 128 to 1048576 behind memory=, got '1G'"),
        ({"memory": "64"}, "behind memory=, got '64'"),
        ({"memory": "-5"}, "behind memory=, got '-5'"),
        ({"memory": "٥١٢"}, "behind memory=, got"),
        ({"accel": "hvf"}, "expected tcg or kvm behind accel=, got 'hvf'"),
        ({"saved": "yes"}, "expected on or off behind saved=, got 'yes'"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create(spec(**options), tmp_path)
    assert "--dispatch-machine qemu?…: " in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# QEMU


@pytest.mark.parametrize(
    ("board", "packages"),
    [
        (X86_64, ("apt install qemu-system-x86", "dnf install qemu-system-x86-core")),
        (AARCH64, ("apt install qemu-system-arm", "dnf install qemu-system-aarch64-core")),
    ],
)
def test_a_missing_qemu_is_named_with_its_packages(tmp_path: Path, board: Board, packages: tuple[str, ...]) -> None:
    with pytest.raises(MachineError, match=f"expected {board.binary} on this computer, found none") as caught:
        build_for(board, Options(), {"PATH": str(tmp_path)})
    assert all(package in str(caught.value) for package in packages)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        ("echo 'QEMU emulator version 5.2.0 (Debian)'", "QEMU emulator version 5.2.0 (Debian)"),
        ("echo hello; echo QEMU emulator version 9.0", "hello"),
        ("exit 1", "no answer"),
        ("echo 'libfdt.so.1: cannot open' >&2; exit 127", "libfdt.so.1: cannot open"),
    ],
)
def test_a_qemu_that_is_too_old_or_none_is_named(tmp_path: Path, answer: str, got: str) -> None:
    environ = script(tmp_path, "qemu-system-x86_64", answer)
    with pytest.raises(MachineError) as caught:
        build_for(X86_64, Options(), environ)
    assert str(caught.value).startswith(f"expected QEMU 6.0 or later as {tmp_path / 'qemu-system-x86_64'}, got {got!r}")


def test_a_qemu_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    environ = script(tmp_path, "qemu-system-x86_64", "")
    (tmp_path / "qemu-system-x86_64").write_bytes(b"\x7fELF no program")
    with pytest.raises(MachineError, match=r"--version to answer, got .*Exec format error"):
        build_for(X86_64, Options(), environ)


def test_kvm_is_for_computers_of_the_same_kind(tmp_path: Path) -> None:
    board = next(board for board in (X86_64, AARCH64) if board.host != platform.machine())
    environ = script(tmp_path, board.binary, "echo QEMU emulator version 7.2.22")
    with pytest.raises(MachineError, match=f"accel=kvm needs an {board.name} computer and write access to /dev/kvm"):
        build_for(board, Options(accel="kvm"), environ)


@BOARDS
def test_a_build_holds_what_was_found(tmp_path: Path, board: Board) -> None:
    environ = script(tmp_path, board.binary, "echo 'QEMU emulator version 10.1.0 (x)'; echo more")
    code, variables = touch(tmp_path / "code.fd"), touch(tmp_path / "vars.fd")
    named = dict(zip(board.variables, (str(code), str(variables)), strict=True))
    build = build_for(board, Options(memory=256), environ | named)
    assert build == Build(
        board=board,
        binary=tmp_path / board.binary,
        version="QEMU emulator version 10.1.0 (x)",
        firmware=Firmware(code=code, vars=variables),
        memory=256,
        accel="tcg",
    )


def test_a_comma_in_a_path_reaches_qemu_as_one(tmp_path: Path) -> None:
    firmware = Firmware(code=touch(tmp_path / "a,b" / "code.fd"), vars=touch(tmp_path / "vars.fd"))
    build = Build(board=X86_64, binary=tmp_path, version="", firmware=firmware, memory=512, accel="tcg")
    assert f"if=pflash,unit=0,format=raw,readonly=on,file={tmp_path}/a,,b/code.fd" in build.flash()


# Firmware


@BOARDS
def test_missing_firmware_is_named_with_its_packages(tmp_path: Path, board: Board) -> None:
    with pytest.raises(MachineError) as caught:
        find_firmware(board, NONE, root=tmp_path)
    text = str(caught.value)
    assert text.startswith(f"expected UEFI firmware for {board.name} such as {tmp_path}/usr/share/")
    assert all(words in text for words in ("apt install ", "dnf install ", "pacman -S ", *board.variables))
    assert "\n" not in text


@pytest.mark.parametrize(
    ("board", "place"), [(board, place) for board in (X86_64, AARCH64) for place in board.locations]
)
def test_every_usual_place_is_looked_at(tmp_path: Path, board: Board, place: tuple[str, str]) -> None:
    code, variables = (touch(tmp_path / name) for name in place)
    assert find_firmware(board, NONE, root=tmp_path) == Firmware(code=code, vars=variables)


@BOARDS
def test_the_first_of_several_places_is_taken(tmp_path: Path, board: Board) -> None:
    for place in board.locations:
        for name in place:
            touch(tmp_path / name)
    assert find_firmware(board, NONE, root=tmp_path).code == tmp_path / board.locations[0][0]


def test_code_without_its_variables_is_no_firmware(tmp_path: Path) -> None:
    touch(tmp_path / X86_64.locations[0][0])
    with pytest.raises(MachineError, match="found none"):
        find_firmware(X86_64, NONE, root=tmp_path)


def test_options_come_before_the_environment_and_both_before_the_usual_places(tmp_path: Path) -> None:
    for name in X86_64.locations[0]:
        touch(tmp_path / name)
    mine, theirs, variables = (touch(tmp_path / name) for name in ("mine.fd", "theirs.fd", "vars.fd"))
    environ = {"DISPATCH_OVMF_CODE": str(theirs), "DISPATCH_OVMF_VARS": str(variables)}
    assert find_firmware(X86_64, NONE, environ, tmp_path) == Firmware(code=theirs, vars=variables)
    assert find_firmware(X86_64, (str(mine), ""), environ, tmp_path) == Firmware(code=mine, vars=variables)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (("{}/code.fd", ""), "behind vars= or DISPATCH_OVMF_VARS, got nothing: give both"),
        (("", "{}/vars.fd"), "behind code= or DISPATCH_OVMF_CODE, got nothing: give both"),
        (("{}/code.fd", "{}/lost.fd"), "behind vars= or DISPATCH_OVMF_VARS, got {}/lost.fd"),
        (("{}", "{}/vars.fd"), "behind code= or DISPATCH_OVMF_CODE, got {}: "),
    ],
)
def test_named_firmware_has_to_be_there(tmp_path: Path, named: tuple[str, str], words: str) -> None:
    touch(tmp_path / "code.fd")
    touch(tmp_path / "vars.fd")
    code, variables = (value.format(tmp_path) for value in named)
    with pytest.raises(MachineError) as caught:
        find_firmware(X86_64, (code, variables), root=tmp_path)
    assert words.format(tmp_path) in str(caught.value)


# URLs


@pytest.mark.parametrize(
    ("board", "url", "target"),
    [
        (X86_64, "http://127.0.0.1:8080/dispatch?machine=t", "http://10.0.2.2:8080/dispatch?machine=t"),
        (X86_64, "http://127.0.0.1/dispatch", "http://10.0.2.2/dispatch"),
        (X86_64, "http://127.3.2.1:80/d", "http://10.0.2.2:80/d"),
        (X86_64, "http://[::1]:8080/d", "http://10.0.2.2:8080/d"),
        (X86_64, "http://localhost:8080/d", "http://10.0.2.2:8080/d"),
        (X86_64, "http://192.0.2.7:8080/d?a=b", "http://192.0.2.7:8080/d?a=b"),
        (X86_64, "http://lab.example/d", "http://lab.example/d"),
        (AARCH64, "http://127.0.0.1:8080/d?machine=t", "http://10.0.2.2:8080/d?machine=t&arch=aa64"),
        (AARCH64, "http://127.0.0.1:8080/d", "http://10.0.2.2:8080/d?arch=aa64"),
    ],
)
def test_the_lab_is_reached_by_its_address_in_the_machines_network(board: Board, url: str, target: str) -> None:
    assert url_for(board, url) == target


@pytest.mark.parametrize("path", ["a" * 240, "ü"])
def test_a_url_that_dhcp_cannot_tell_is_refused(path: str) -> None:
    with pytest.raises(MachineError) as caught:
        url_for(X86_64, f"http://127.0.0.1:8080/{path}?machine=secret")
    assert "expected a boot URL of at most 255 ASCII characters" in str(caught.value)
    assert "choose a shorter --dispatch-path" in str(caught.value)
    assert "secret" not in str(caught.value)
