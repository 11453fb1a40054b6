"""Saves which server took the boot message, until the machine is reset, so that the report goes there too."""

import os
from contextlib import suppress
from pathlib import Path

from .urls import is_url

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # changes with each boot


def save_server(url: str) -> None:
    """Save the URL of the server that took the boot message; if it cannot be written, the report searches again."""
    with suppress(OSError):
        note = _note_file()
        note.touch(0o600)  # the URL may contain the machine's token
        note.write_text(url)


def saved_server() -> str:
    """Return the URL of the server that took the boot message; empty if it was not saved."""
    with suppress(OSError, UnicodeError):
        url = _note_file().read_text()
        return url if is_url(url) else ""
    return ""


def forget_server() -> None:
    """Delete the saved URL: a workload that sends a boot message again may find another server."""
    with suppress(OSError):
        _note_file().unlink()


def _note_file() -> Path:
    """Return the path of the file: in a folder that no other user can write to, with the boot id in its name.

    Raises:
        OSError: There is no such folder, or no boot id.
    """
    folder = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR")
    folder = os.environ.get("DISPATCH_RUN") or folder  # the variable is for tests
    if not folder:
        raise FileNotFoundError
    return Path(folder, f"dispatch-beacon-{_BOOT_ID.read_text().strip()}")
