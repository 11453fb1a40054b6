"""Saved firmware on disk: found whole or not at all, made by one at a time, and not for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_dispatch.machines.qemu.saved_state import DROPS, NEWEST, SavedState, SavedStates, key_of


class Folder(SavedStates):
    """The states of one folder, and what was told of them."""

    def __init__(self, folder: Path) -> None:
        self.told: list[str] = []
        super().__init__(folder, self.told.append)


@pytest.fixture
def states(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "firmware-state" / "key")


def save(states: SavedStates, content: bytes = b"image", slack: float = 0.5) -> None:
    with states.claim() as draft:
        assert draft is not None
        draft.path.write_bytes(content)
        draft.publish(discover=b"\x00frame\xff", slack=slack, tries=1)


def found(states: SavedStates) -> SavedState:
    state = states.find()
    assert state is not None
    return state


def test_what_was_published_is_found_by_everybody(states: Folder, tmp_path: Path) -> None:
    assert states.find() is None
    save(states)
    state = found(Folder(tmp_path / "firmware-state" / "key"))
    assert (state.discover, state.slack, state.tries) == (b"\x00frame\xff", 0.5, 1)
    assert states.path_of(state).read_bytes() == b"image"


def test_only_its_user_may_look_into_the_folder(states: Folder, tmp_path: Path) -> None:
    save(states)
    assert (tmp_path / "firmware-state" / "key").stat().st_mode & 0o077 == 0


def test_a_newer_state_takes_the_olders_place(states: Folder, tmp_path: Path) -> None:
    save(states, b"older")
    save(states, b"newer", slack=0.2)
    assert found(states).slack == 0.2
    [image] = (tmp_path / "firmware-state" / "key").glob("*.qemu")
    assert image.read_bytes() == b"newer"


def test_a_draft_that_is_not_published_leaves_nothing(states: Folder, tmp_path: Path) -> None:
    save(states, b"older")
    with states.claim() as draft:
        assert draft is not None
        draft.path.write_bytes(b"newer")
    assert states.path_of(found(states)).read_bytes() == b"older"
    assert len(list((tmp_path / "firmware-state" / "key").glob("*.qemu"))) == 1


def test_one_saves_at_a_time(states: Folder, tmp_path: Path) -> None:
    other = Folder(tmp_path / "firmware-state" / "key")
    with states.claim() as mine, other.claim() as theirs:
        assert mine is not None
        assert theirs is None
    with other.claim() as theirs:
        assert theirs is not None
    assert other.told == [], "that somebody else saves is no trouble"


@pytest.mark.parametrize(
    "note", [b"", b"{}", b'{"image": 1}', b"\xff", b'{"image":"x","size":1,"discover":"!","slack":1}']
)
def test_a_broken_note_is_no_state(states: Folder, tmp_path: Path, note: bytes) -> None:
    save(states)
    (tmp_path / "firmware-state" / "key" / "state.json").write_bytes(note)
    assert states.find() is None
    save(states)
    assert found(states).size == 5


def test_an_image_that_was_cut_short_or_lost_is_no_state(states: Folder) -> None:
    save(states)
    image = states.path_of(found(states))
    image.write_bytes(b"imag")
    assert states.find() is None
    image.unlink()
    assert states.find() is None


def test_a_state_that_does_not_work_is_forgotten(states: Folder, tmp_path: Path) -> None:
    save(states)
    states.drop(found(states))
    assert states.find() is None
    assert list((tmp_path / "firmware-state" / "key").glob("*.qemu")) == []
    assert states.wanted


def test_a_state_that_was_replaced_meanwhile_is_not_forgotten_with_the_older(states: Folder) -> None:
    save(states, b"older")
    older = found(states)
    save(states, b"newer")
    states.drop(older)
    assert states.path_of(found(states)).read_bytes() == b"newer"


def test_after_too_many_that_did_not_work_none_is_wanted(states: Folder) -> None:
    for _ in range(DROPS):
        save(states)
        states.drop(found(states))
    assert not states.wanted
    assert states.told == [f"{DROPS} saved states in a row did not work"]


def test_one_that_worked_between_them_counts(states: Folder) -> None:
    for _ in range(DROPS + 1):
        save(states)
        states.trust()
        states.drop(found(states))
    assert states.wanted


def test_states_that_are_not_wanted_are_not_found(tmp_path: Path) -> None:
    save(Folder(tmp_path / "key"))
    told: list[str] = []
    assert SavedStates(tmp_path / "key", told.append, wanted=False).find() is None


def test_where_nothing_can_be_written_that_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    states = Folder(tmp_path / "file" / "key")
    with states.claim() as draft:
        assert draft is None
    assert not states.wanted
    [told] = states.told
    assert told.startswith(f"expected to save firmware in {tmp_path / 'file' / 'key'}: ")


def test_a_note_that_cannot_be_written_is_told(states: Folder, tmp_path: Path) -> None:
    with states.claim() as draft:
        assert draft is not None
        draft.path.write_bytes(b"image")
        (tmp_path / "firmware-state" / "key" / "state.json").mkdir()
        draft.publish(discover=b"", slack=1.0, tries=0)
    assert "expected to write" in states.told[0]
    assert not states.wanted
    assert not draft.path.exists()


def test_the_folders_that_were_used_last_are_kept(tmp_path: Path) -> None:
    folders = [Folder(tmp_path / f"key-{number}") for number in range(NEWEST + 2)]
    for age, states in enumerate(reversed(folders)):
        save(states)
        note = tmp_path / f"key-{NEWEST + 1 - age}" / "state.json"
        if note.exists():
            os.utime(note, (1000 - age, 1000 - age))
    assert folders[-1].find(), "being used makes it young again"
    save(Folder(tmp_path / "key-new"))
    kept = {path.name for path in tmp_path.iterdir()}
    assert len(kept) == NEWEST
    assert {"key-new", f"key-{NEWEST + 1}"} <= kept


def test_keys_differ_with_every_part(tmp_path: Path) -> None:
    keys = {key_of(), key_of(1), key_of("1"), key_of(1, 2), key_of([1, 2]), key_of(tmp_path), key_of((1,), 2)}
    assert len(keys) == 7
    assert all(key.isalnum() and len(key) == 32 for key in keys)
    assert key_of("a", [1]) == key_of("a", [1])
