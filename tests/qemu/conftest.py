"""QEMU tests are left out where QEMU or its firmware is missing, in one line that names the packages."""

from __future__ import annotations

import pytest

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.machines.qemu.board import AARCH64, X86_64, Board
from pytest_dispatch.machines.qemu.driver import Options, build_for


def _needed(board: Board) -> None:
    try:
        build_for(board, Options())
    except MachineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def x86_64() -> None:
    """QEMU and OVMF are here."""
    _needed(X86_64)


@pytest.fixture(scope="session")
def aarch64() -> None:
    """QEMU and AAVMF are here."""
    _needed(AARCH64)
