"""Which server took the boot message: noted until the machine is reset, so that the report goes there too."""

import os
from contextlib import suppress
from pathlib import Path

from .urls import is_url

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # another one after each reset


def remember(url: str) -> None:
    """Note which server took the boot message; where nothing can be written, each search begins anew."""
    with suppress(OSError):
        note = _note_file()
        note.touch(0o600)  # the URL may hold the machine's token
        note.write_text(url)


def remembered() -> str:
    """Return the server that took the boot message, or nothing if that is not noted."""
    with suppress(OSError, UnicodeError):
        url = _note_file().read_text()
        return url if is_url(url) else ""
    return ""


def forget() -> None:
    """Drop the note: a workload that says anew that it runs may have found another server."""
    with suppress(OSError):
        _note_file().unlink()


def _note_file() -> Path:
    """Return its path: in a folder that nobody else may write to, and named for this run of the system.

    Raises:
        OSError: There is none.
    """
    folder = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR")
    folder = os.environ.get("DISPATCH_RUN") or folder  # the former for tests
    if not folder:
        raise FileNotFoundError
    return Path(folder, f"dispatch-beacon-{_BOOT_ID.read_text().strip()}")
