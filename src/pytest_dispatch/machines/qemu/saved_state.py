"""Saved states of firmware that waits for a boot server, so that a boot starts there instead of at power-on.

One state serves all machines and sessions of a user, because the boot URL arrives by DHCP afterwards. Each combination
of QEMU, firmware and machine arguments has its own folder, guarded by a file lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from pytest_dispatch.support.codec import decode

NEWEST = 8  # folders kept; an update of QEMU or another memory size makes a new one
DROPS = 2  # broken states in a row after which a machine no longer uses saved states

_NOTE = "state.json"
_IMAGES = "*.qemu"


class SavedState(msgspec.Struct, frozen=True, kw_only=True):
    """A saved state, as described by the note in its folder.

    Attributes:
        image: Name of the file with QEMU's migration stream.
        size: The file's size in bytes; a file of another size is a broken state.
        discover: The Ethernet frame with the DHCP DISCOVER that the firmware waits to be answered.
        slack: Seconds from resume until firmware connected to the lab, as measured.
        tries: Number of attempts to save a later moment.
    """

    image: str
    size: int
    discover: bytes
    slack: float
    tries: int = 0


def key_of(*parts: object) -> str:
    """Return a folder name for the things that a state depends on."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]


class Draft:
    """A state that is being saved: its image is written to `path`, and used only after it is published."""

    def __init__(self, states: SavedStates, path: Path) -> None:
        self._states = states
        self.path = path
        self.published = False

    def publish(self, *, discover: bytes, slack: float, tries: int) -> None:
        """Make this the current state; the arguments are those of `SavedState`."""
        size = self.path.stat().st_size
        state = SavedState(image=self.path.name, size=size, discover=discover, slack=slack, tries=tries)
        self.published = self._states.note(state)
        if self.published:
            self._states.tidy(self.path)

    def discard(self) -> None:
        """Remove the image, unless it was published."""
        if not self.published:
            self.path.unlink(missing_ok=True)


class SavedStates:
    """The states of one combination, of which at most one is current.

    Args:
        folder: Its folder, named by `key_of`; made when first needed.
        tell: Called with the reason if no state can be saved.
        wanted: Whether states are used at all; turned off for good if they cause failures.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None], *, wanted: bool = True) -> None:
        self._folder = folder
        self._tell = tell
        self._drops = 0
        self.wanted = wanted

    def give_up(self, why: str) -> None:
        """Stop saving and using states."""
        self.wanted = False
        self._tell(why)

    def find(self) -> SavedState | None:
        """Return the current state if it is complete, else None."""
        note = self._folder / _NOTE
        try:
            state = decode(note.read_bytes(), SavedState)
            if not self.wanted or self.path_of(state).stat().st_size != state.size:
                return None
            os.utime(note)  # `tidy` keeps the most recently used states
        except (OSError, msgspec.MsgspecError):
            return None
        return state

    def path_of(self, state: SavedState) -> Path:
        """Return the path of a state's image."""
        return self._folder / state.image

    @contextmanager
    def claim(self) -> Iterator[Draft | None]:
        """Claim the right to save a state; yield None if another process is saving one, or none can be saved."""
        with ExitStack() as held:
            yield self._draft(held)

    def _draft(self, held: ExitStack) -> Draft | None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            held.enter_context(FileLock(self._folder / "lock", blocking=False))
        except Timeout:
            return None
        except OSError as error:
            self.give_up(f"expected to save firmware in {self._folder}: {error}")
            return None
        draft = Draft(self, self._folder / f"{secrets.token_hex(8)}{_IMAGES[1:]}")
        held.callback(draft.discard)
        return draft

    def note(self, state: SavedState) -> bool:
        """Write the note that makes a state current, atomically, and return whether that worked."""
        new = self._folder / f"{_NOTE}.new"
        try:
            new.write_bytes(msgspec.json.encode(state))
            new.replace(self._folder / _NOTE)
        except OSError as error:
            self.give_up(f"expected to write {self._folder / _NOTE}: {error}")
            return False
        return True

    def tidy(self, image: Path) -> None:
        """Remove this folder's other images, and the least recently used folders."""
        for other in self._folder.glob(_IMAGES):
            if other != image:
                other.unlink(missing_ok=True)
        notes = self._folder.parent.glob(f"*/{_NOTE}")
        for note in sorted(notes, key=_used, reverse=True)[NEWEST:]:
            shutil.rmtree(note.parent, ignore_errors=True)

    def trust(self) -> None:
        """Record that a state worked."""
        self._drops = 0

    def drop(self, state: SavedState) -> None:
        """Remove a state that does not work; after `DROPS` in a row, stop using states."""
        found = self.find()
        self._drops += 1
        if found is not None and found.image == state.image:
            (self._folder / _NOTE).unlink(missing_ok=True)
            self.path_of(state).unlink(missing_ok=True)
        if self._drops >= DROPS:
            self.give_up(f"{self._drops} saved states in a row did not work")


def _used(note: Path) -> float:
    """Return when a state was last used; 0 if another session has just removed it."""
    try:
        return note.stat().st_mtime
    except FileNotFoundError:
        return 0.0
