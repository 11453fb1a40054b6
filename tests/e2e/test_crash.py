"""pytest killed at every commit of its journal, before and after it is on disk; then resumed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from disk import killed, killed_at_server, needs_shim
from faults import fault
from forks import Forks
from plugin_bench import APART
from scenes import JUDGED, OWN, PLAIN, Play, Scene, Stage, Story
from torture import drawn

pytestmark = needs_shim

SURE = 30  # steps that each session has at least, the beginnings and ends of its commits


def crash_at(step: int) -> Story:
    """A session that is killed at this step, if it gets that far, and resumed."""

    def story(scene: Scene, forks: Forks) -> bool:
        code, said = scene.run(forks, environ=killed(scene.journal, step, commits=True))
        crashed = code == -signal.SIGKILL
        if crashed and not scene.ended():
            code, said = scene.run(forks, "--dispatch-resume")
        assert crashed or code == pytest.ExitCode.TESTS_FAILED, said
        return crashed

    return story


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("crashes")) as made:
        yield made


RESUMED = "`resumed` in the line at the top"


@pytest.mark.parametrize(
    "play",
    [
        pytest.param(
            PLAIN,
            id="strangers",
            marks=fault(
                "Crashes",
                "pytest is killed (SIGKILL) at any commit of its journal, before or after it is on disk",
                outcome="`--dispatch-resume`: every acknowledged report is there, each run ends once, no issue is filed"
                " twice, machines go on where they were",
                told=RESUMED,
            ),
        ),
        pytest.param(
            JUDGED,
            id="judged",
            marks=fault(
                "Crashes",
                "likewise with hooks that judge runs and change issues",
                outcome="what was not judged yet is judged by the resumed session",
                told=RESUMED,
            ),
        ),
        pytest.param(
            OWN,
            id="own machines",
            marks=fault(
                "Crashes",
                "likewise with machines of the lab's own, which end with it",
                outcome="their attempts are faults of the lab, and tried again",
                told=f"{RESUMED}; `the lab was restarted`",
            ),
        ),
    ],
)
@pytest.mark.draw(1, of="walks")
def test_a_session_that_is_killed_at_any_commit_can_be_resumed(stage: Stage, play: Play) -> None:
    assert stage.walk(play, crash_at, sure=SURE, sampled=4) == []


SURE_AT_SERVER = 10  # further on, a session on a busy computer may be through: many changes share a commit there


@pytest.fixture(scope="module")
def server_stage(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("server"), postgres) as made:
        yield made


def crash_at_server(step: int) -> Story:
    """A session that is killed right before or after it sends this commit to its server, and resumed."""

    def story(scene: Scene, forks: Forks) -> bool:
        socket = Path(str(sa.make_url(scene.url).query["host"]))
        code, said = scene.run(forks, environ=killed_at_server(socket, step))
        crashed = code == -signal.SIGKILL
        if crashed and not scene.ended():
            code, said = scene.run(forks, "--dispatch-resume")
        assert crashed or code == pytest.ExitCode.TESTS_FAILED, said
        return crashed

    return story


@fault(
    "Crashes",
    "pytest is killed (SIGKILL) at any commit of a journal in PostgreSQL, before or after it is sent",
    outcome="likewise",
    told=RESUMED,
)
@pytest.mark.parametrize("play", [pytest.param(PLAIN, id="strangers"), pytest.param(OWN, id="own machines")])
def test_a_session_that_is_killed_at_a_commit_to_a_server_can_be_resumed(server_stage: Stage, play: Play) -> None:
    assert server_stage.walk(play, crash_at_server, sure=SURE_AT_SERVER, sampled=4) == []


SURE_APART = 16  # a lab in a process of its own writes no other journal: a few crashes of it are enough


def crash_apart_at(step: int, *, parent: bool) -> Story:
    """The lab's process is killed at this step, alone or with pytest's, if it gets that far; then it is resumed."""

    def story(scene: Scene, forks: Forks) -> bool:
        environ = killed(scene.journal, step, commits=True, parent=parent)
        code, said = scene.run(forks, APART, environ=environ)
        crashed = code == -signal.SIGKILL if parent else "the lab's process was killed (SIGKILL)" in said
        if crashed and not scene.ended():
            code, said = scene.run(forks, APART, "--dispatch-resume")
        assert crashed or code == pytest.ExitCode.TESTS_FAILED, said
        return crashed

    return story


@fault(
    "Crashes",
    "pytest and the lab's process are killed (SIGKILL) at the same moment, at any commit",
    outcome="likewise",
    told=RESUMED,
)
@pytest.mark.draw(1, of="walks")
def test_a_session_that_is_killed_with_its_lab_can_be_resumed(stage: Stage) -> None:
    assert stage.walk(PLAIN, partial(crash_apart_at, parent=True), sure=SURE_APART, sampled=2) == []


@fault(
    "Crashes",
    "the lab's process is killed (SIGKILL) at any commit, and pytest is not",
    outcome="`error` for what had no outcome yet; `--dispatch-resume`: likewise",
    told="`the lab's process was killed (SIGKILL); --dispatch-resume goes on with the session`",
)
@pytest.mark.draw(1, of="walks")
def test_a_session_whose_lab_is_killed_can_be_resumed(stage: Stage) -> None:
    assert stage.walk(PLAIN, partial(crash_apart_at, parent=False), sure=SURE_APART, sampled=2) == []


@fault(
    "Crashes",
    "pytest is killed (SIGKILL) while it makes its journal",
    outcome="the next session makes it anew",
    told="nothing",
)
def test_a_journal_that_was_being_made_is_made_anew(stage: Stage) -> None:
    def killed_at(step: int) -> Story:
        def story(scene: Scene, forks: Forks) -> bool:
            code, said = scene.run(forks, environ=killed(scene.journal, step, commits=True))
            assert code == -signal.SIGKILL, said
            code, said = scene.run(forks, "--dispatch-resume")  # nobody has looked at the journal in between
            assert code == pytest.ExitCode.TESTS_FAILED, said
            return True

        return story

    for step in drawn(range(1, 11), 3):
        _, wrong = stage.play(PLAIN, killed_at(step))
        assert not wrong, step


@fault(
    "Crashes",
    "pytest is killed again and again, after a few commits each time",
    outcome="every session goes on where the one before was",
    told=RESUMED,
)
def test_a_session_that_is_killed_again_and_again_gets_through(stage: Stage) -> None:
    sessions = []

    def story(scene: Scene, forks: Forks) -> bool:
        for step in count(9):
            code, said = scene.run(forks, "--dispatch-resume", environ=killed(scene.journal, step, commits=True))
            sessions.append(code)
            if code != -signal.SIGKILL or scene.ended():
                break
        assert code in (-signal.SIGKILL, pytest.ExitCode.TESTS_FAILED), said
        return True

    assert stage.play(PLAIN, story) == (True, [])
    assert len(sessions) > 3
