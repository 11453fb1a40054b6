"""pytest killed at every commit of its journal, before and after it is on disk; then resumed."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from databases import postgres_programs, postgres_server
from disk import killed, killed_at_server, needs_shim
from faults import fault
from forks import Forks
from plugin_bench import APART
from scenes import JUDGED, MOST, OWN, PLAIN, Play, Scene, Stage, Story

pytestmark = needs_shim

LEAST = 30  # steps of a session, the beginnings and ends of its commits


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
def test_killed_at_every_commit(stage: Stage, play: Play) -> None:
    crashes, wrong = stage.walk(play, crash_at)
    assert wrong == []
    assert LEAST < crashes < MOST


SAMPLED = 3  # steps of the same walk with a server, of the first and of the others: `make crashes` takes all
FIRST = 11  # from this step on, a session on a busy computer may be through: many changes share a commit there


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
@pytest.mark.skipif(postgres_programs() is None, reason="needs PostgreSQL and psycopg: apt install postgresql")
@pytest.mark.parametrize("play", [pytest.param(PLAIN, id="strangers"), pytest.param(OWN, id="own machines")])
def test_killed_at_commits_to_a_server(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], play: Play
) -> None:
    seed = int(os.environ.get("DISPATCH_CRASH_SEED") or random.randrange(10**6))
    programs = postgres_programs()
    assert programs is not None
    with postgres_server(programs) as url, Stage(tmp_path_factory.mktemp("crashes"), url) as stage:
        if os.environ.get("DISPATCH_CRASHES") == "all":
            crashes, wrong = stage.walk(play, crash_at_server)
            assert wrong == []
            assert FIRST <= crashes < MOST
            return
        with capsys.disabled():
            print(f"\nsteps at which it crashes are drawn: DISPATCH_CRASH_SEED={seed} draws them again")
        draw = random.Random(seed)
        for step in draw.sample(range(1, FIRST), SAMPLED) + draw.sample(range(FIRST, LEAST), SAMPLED):
            crashed, wrong = stage.play(play, crash_at_server(step))
            assert wrong == [], f"step {step}, seed {seed}"
            assert crashed or step >= FIRST, f"step {step}, seed {seed}"


SOME = 16  # a lab in a process of its own writes no other journal: a few crashes of it are enough


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
def test_killed_with_its_lab(stage: Stage) -> None:
    crashes, wrong = stage.walk(PLAIN, partial(crash_apart_at, parent=True), every=SOME)
    assert wrong == []
    assert crashes >= LEAST // SOME


@fault(
    "Crashes",
    "the lab's process is killed (SIGKILL) at any commit, and pytest is not",
    outcome="`error` for what had no outcome yet; `--dispatch-resume`: likewise",
    told="`the lab's process was killed (SIGKILL); --dispatch-resume goes on with the session`",
)
def test_the_lab_alone_is_killed(stage: Stage) -> None:
    crashes, wrong = stage.walk(PLAIN, partial(crash_apart_at, parent=False), every=SOME)
    assert wrong == []
    assert crashes >= LEAST // SOME


@fault(
    "Crashes",
    "pytest is killed (SIGKILL) while it makes its journal",
    outcome="the next session makes it anew",
    told="nothing",
)
def test_killed_while_the_journal_is_made(stage: Stage) -> None:
    def killed_at(step: int) -> Story:
        def story(scene: Scene, forks: Forks) -> bool:
            code, said = scene.run(forks, environ=killed(scene.journal, step, commits=True))
            assert code == -signal.SIGKILL, said
            code, said = scene.run(forks, "--dispatch-resume")  # nobody has looked at the journal in between
            assert code == pytest.ExitCode.TESTS_FAILED, said
            return True

        return story

    for step in range(1, 11):
        _, wrong = stage.play(PLAIN, killed_at(step))
        assert not wrong, step


@fault(
    "Crashes",
    "pytest is killed again and again, after a few commits each time",
    outcome="every session goes on where the one before was",
    told=RESUMED,
)
def test_killed_again_and_again(stage: Stage) -> None:
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
