"""The machine types that QEMU emulates: their firmware, and the arguments that build them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pytest_dispatch.core.errors import MachineError

#: The address of this computer's loopback interface, as seen from a machine behind QEMU's user network.
LAB = "10.0.2.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One machine type.

    Attributes:
        name: The processor's name, for messages and environment variables.
        binary: The name of QEMU's program.
        machine: QEMU's machine type.
        cpu: QEMU's processor model without hardware virtualization.
        host: The value of `platform.machine()` on a computer that can run it with KVM.
        arch: Value of `arch` in the boot URL, by which the lab chooses suitable programs; empty for x86-64.
        qemu: How to install QEMU.
        firmware: How to install its firmware.
        locations: Paths of its firmware, code and empty variables, the best first.
        variables: Environment variables with other firmware paths.
    """

    name: str
    binary: str
    machine: str
    cpu: str
    host: str
    arch: str
    qemu: str
    firmware: str
    locations: tuple[tuple[str, str], ...]
    variables: tuple[str, str]


X86_64 = Board(
    name="x86-64",
    binary="qemu-system-x86_64",
    machine="q35",
    cpu="max",
    host="x86_64",
    arch="",
    qemu="apt install qemu-system-x86 (Debian, Ubuntu), dnf install qemu-system-x86-core (Fedora)",
    firmware="apt install ovmf (Debian, Ubuntu), dnf install edk2-ovmf (Fedora), pacman -S edk2-ovmf (Arch)",
    locations=(
        ("usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("usr/share/OVMF/OVMF_CODE.fd", "usr/share/OVMF/OVMF_VARS.fd"),
        ("usr/share/edk2/ovmf/OVMF_CODE.fd", "usr/share/edk2/ovmf/OVMF_VARS.fd"),
        ("usr/share/edk2/x64/OVMF_CODE.4m.fd", "usr/share/edk2/x64/OVMF_VARS.4m.fd"),
        ("usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "usr/share/edk2-ovmf/x64/OVMF_VARS.fd"),
        ("usr/share/qemu/edk2-x86_64-code.fd", "usr/share/qemu/edk2-i386-vars.fd"),
        ("opt/homebrew/share/qemu/edk2-x86_64-code.fd", "opt/homebrew/share/qemu/edk2-i386-vars.fd"),
        ("usr/local/share/qemu/edk2-x86_64-code.fd", "usr/local/share/qemu/edk2-i386-vars.fd"),
    ),
    variables=("DISPATCH_OVMF_CODE", "DISPATCH_OVMF_VARS"),
)

AARCH64 = Board(
    name="AArch64",
    binary="qemu-system-aarch64",
    machine="virt",
    cpu="cortex-a57",
    host="aarch64",
    arch="aa64",
    qemu="apt install qemu-system-arm (Debian, Ubuntu), dnf install qemu-system-aarch64-core (Fedora)",
    firmware="apt install qemu-efi-aarch64 (Debian, Ubuntu), dnf install edk2-aarch64 (Fedora), "
    "pacman -S edk2-aarch64 (Arch)",
    locations=(
        ("usr/share/AAVMF/AAVMF_CODE.no-secboot.fd", "usr/share/AAVMF/AAVMF_VARS.fd"),
        ("usr/share/AAVMF/AAVMF_CODE.fd", "usr/share/AAVMF/AAVMF_VARS.fd"),
        ("usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "usr/share/edk2/aarch64/vars-template-pflash.raw"),
        ("usr/share/edk2/aarch64/QEMU_CODE.fd", "usr/share/edk2/aarch64/QEMU_VARS.fd"),
        ("usr/share/qemu/edk2-aarch64-code.fd", "usr/share/qemu/edk2-arm-vars.fd"),
        ("opt/homebrew/share/qemu/edk2-aarch64-code.fd", "opt/homebrew/share/qemu/edk2-arm-vars.fd"),
        ("usr/local/share/qemu/edk2-aarch64-code.fd", "usr/local/share/qemu/edk2-arm-vars.fd"),
    ),
    variables=("DISPATCH_AAVMF_CODE", "DISPATCH_AAVMF_VARS"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """The two flash images of a machine: the code, and empty variables."""

    code: Path
    vars: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Everything that determines a machine.

    Attributes:
        board: The machine type.
        binary: The QEMU program.
        version: The first line of the output of `--version`.
        firmware: The flash images.
        memory: MiB.
        accel: `tcg` or `kvm`.
    """

    board: Board
    binary: Path
    version: str
    firmware: Firmware
    memory: int
    accel: str

    def hardware(self) -> tuple[str, ...]:
        """Return QEMU's arguments for the hardware, without flash and links; a saved state is bound to them.

        The network card is on a hub with the user network and our wire, on which we answer DHCP. The card's option ROM
        (iPXE) is left out because it costs 7 s, and the firmware's own PXE is turned off because it costs a minute.
        With `pause`, QEMU stays alive when the guest ends, so that the event about it cannot be lost.
        """
        fw_cfg = "name=opt/org.tianocore/IPv{}PXESupport,string=n"
        return (
            *("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"),
            *("-machine", self.board.machine, "-accel", self.accel, "-m", str(self.memory)),
            *("-cpu", self.board.cpu if self.accel == "tcg" else "host"),
            *("-netdev", "user,id=user", "-netdev", "hubport,id=port0,hubid=0,netdev=user"),
            *("-netdev", "hubport,id=port1,hubid=0,netdev=wire", "-netdev", "hubport,id=port2,hubid=0"),
            *("-device", "virtio-net-pci,netdev=port2,romfile=", "-device", "pvpanic-pci"),
            *("-fw_cfg", fw_cfg.format(4), "-fw_cfg", fw_cfg.format(6)),
            *("-action", "reboot=shutdown,shutdown=pause,panic=pause"),
        )

    def flash(self) -> tuple[str, ...]:
        """Return QEMU's flash arguments for a boot from power-on; what firmware writes is lost with the process."""
        return (
            *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_escaped(self.firmware.code)}"),
            *("-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={_escaped(self.firmware.vars)}"),
        )

    def saved_flash(self) -> tuple[str, ...]:
        """Return QEMU's flash arguments for a boot from a saved state, which has the content: only sizes matter."""
        sizes = [path.stat().st_size for path in (self.firmware.code, self.firmware.vars)]
        blank = "driver=null-co,read-zeroes=on,node-name={},size={}"
        return (
            *("-blockdev", f"{blank.format('code', sizes[0])},read-only=on"),
            *("-blockdev", blank.format("vars", sizes[1])),
            *("-machine", "pflash0=code,pflash1=vars", "-incoming", "defer"),
        )


def find_firmware(
    board: Board, given: tuple[str, str], environ: Mapping[str, str] = MappingProxyType({}), root: Path = Path("/")
) -> Firmware:
    """Return the firmware named by option or environment, else the first that is installed.

    Args:
        board: The machine type.
        given: Values of the options `code` and `vars`; empty if not given.
        environ: The process's environment.
        root: The folder to which the usual paths are relative.

    Raises:
        MachineError: There is none; says how to install it.
    """
    named = [value or environ.get(name, "") for value, name in zip(given, board.variables, strict=True)]
    if any(named):
        return _named_firmware(board, named)
    for code, variables in board.locations:
        if (root / code).is_file() and (root / variables).is_file():
            return Firmware(code=root / code, vars=root / variables)
    raise MachineError(
        f"expected UEFI firmware for {board.name} such as {root / board.locations[0][0]}, found none: "
        f"{board.firmware}, or name its files by {' and '.join(board.variables)}"
    )


def _named_firmware(board: Board, named: list[str]) -> Firmware:
    for value, option, variable in zip(named, ("code", "vars"), board.variables, strict=True):
        if not Path(value).is_file():
            raise MachineError(
                f"expected a firmware file for {board.name} behind {option}= or {variable}, "
                f"got {value or 'nothing'}: give both its code and its variables"
            )
    return Firmware(code=Path(named[0]).resolve(), vars=Path(named[1]).resolve())


def _escaped(path: Path) -> str:
    """Return a path as a value in QEMU's comma-separated options."""
    return str(path).replace(",", ",,")
