"""Firmware that was saved while it waited for a boot server, so that a boot begins there instead of at power-on.

One state serves every machine and every session of a user, because the boot URL arrives by DHCP afterwards. It lives
in a folder of its own for each combination of QEMU, firmware and machine arguments, guarded by a file lock.
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

NEWEST = 8  # folders kept: an update of QEMU or another memory size makes a new one
DROPS = 2  # states in a row that may turn out broken before a machine goes without

_NOTE = "state.json"
_IMAGES = "*.qemu"


class SavedState(msgspec.Struct, frozen=True, kw_only=True):
    """A saved state, as its note in the folder describes it.

    Attributes:
        image: Name of the file with QEMU's migration stream.
        size: Its length in bytes; another one is a broken state.
        discover: The Ethernet frame with the DHCP DISCOVER that the firmware waits to be answered.
        slack: Seconds from resuming until firmware connected to the lab, when it was tried.
        tries: How often it was tried to save a later moment.
    """

    image: str
    size: int
    discover: bytes
    slack: float
    tries: int = 0


def key_of(*parts: object) -> str:
    """A folder name for what a state depends on."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]


class Draft:
    """A state that is being saved: its image goes to `path`, and counts only once it is published."""

    def __init__(self, states: SavedStates, path: Path) -> None:
        self._states = states
        self.path = path
        self.published = False

    def publish(self, *, discover: bytes, slack: float, tries: int) -> None:
        """Make it the state that is found from now on; the arguments are those of `SavedState`."""
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
    """The states of one combination; at most one of them counts.

    Args:
        folder: Its own folder, named by `key_of`, made when it is first needed.
        tell: Told why no state can be saved.
        wanted: Whether states are used at all; off for good once they were more trouble than help.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None], *, wanted: bool = True) -> None:
        self._folder = folder
        self._tell = tell
        self._drops = 0
        self.wanted = wanted

    def give_up(self, why: str) -> None:
        """Neither save nor use states any more."""
        self.wanted = False
        self._tell(why)

    def find(self) -> SavedState | None:
        """The state, if there is a whole one."""
        note = self._folder / _NOTE
        try:
            state = decode(note.read_bytes(), SavedState)
            if not self.wanted or self.path_of(state).stat().st_size != state.size:
                return None
            os.utime(note)  # `tidy` keeps what was used last
        except (OSError, msgspec.MsgspecError):
            return None
        return state

    def path_of(self, state: SavedState) -> Path:
        """Where a state's image is."""
        return self._folder / state.image

    @contextmanager
    def claim(self) -> Iterator[Draft | None]:
        """The right to save a state; None if somebody else is saving one now, or none can be saved."""
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
        """Write the note that makes a state count, all of it or nothing; whether that worked."""
        new = self._folder / f"{_NOTE}.new"
        try:
            new.write_bytes(msgspec.json.encode(state))
            new.replace(self._folder / _NOTE)
        except OSError as error:
            self.give_up(f"expected to write {self._folder / _NOTE}: {error}")
            return False
        return True

    def tidy(self, image: Path) -> None:
        """Remove this folder's other images, and the folders that were not used for longest."""
        for other in self._folder.glob(_IMAGES):
            if other != image:
                other.unlink(missing_ok=True)
        notes = self._folder.parent.glob(f"*/{_NOTE}")
        for note in sorted(notes, key=_used, reverse=True)[NEWEST:]:
            shutil.rmtree(note.parent, ignore_errors=True)

    def trust(self) -> None:
        """A state worked."""
        self._drops = 0

    def drop(self, state: SavedState) -> None:
        """Forget a state that does not work; after `DROPS` of them in a row, none is wanted any more."""
        found = self.find()
        self._drops += 1
        if found is not None and found.image == state.image:
            (self._folder / _NOTE).unlink(missing_ok=True)
            self.path_of(state).unlink(missing_ok=True)
        if self._drops >= DROPS:
            self.give_up(f"{self._drops} saved states in a row did not work")


def _used(note: Path) -> float:
    """When a state was last used; long ago if another session has just removed it."""
    try:
        return note.stat().st_mtime
    except FileNotFoundError:
        return 0.0
