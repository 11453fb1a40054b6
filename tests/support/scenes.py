"""Sessions to be cut off: folders of workloads, labs with addresses of their own, and what has to hold after all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import sqlalchemy as sa
from databases import new_database
from disk import preloaded
from forks import Forks
from plugin_bench import IN_THREAD, plays
from strangers import Stranger
from torture import QUICK, TORTURE, drawn

from pytest_dispatch.testing.github import FakeGitHub

AT_ONCE = 1 if QUICK else 2  # crashes at the same time, each in a process that first imports everything
MOST = 300  # steps of a session; it has far fewer
PORT = 8765

SAYS = {
    "a.efi": [{"title": "fine"}],
    "b.efi": [{"title": "broken", "result": "failed"}],
    "c.efi": [{"title": "first"}, {"title": "second"}],
}
ALL_SAID = sorted((name, str(report["title"])) for name, reports in SAYS.items() for report in reports)

JUDGES = """
from dataclasses import replace

def pytest_dispatch_verdict(run):
    return "failed" if run.workload.name == "c.efi" else None

def pytest_dispatch_issue(run, issue):
    return replace(issue, title="judged: " + issue.title) if run.workload.name == "b.efi" else False
"""

#: What simulated machines play.
SIMS = {"a.efi": "pass", "b.efi": "fail", "c.efi": "multi-report"}


@dataclass(frozen=True, kw_only=True)
class Play:
    """What a session is made of, and what comes of it.

    Attributes:
        conftest: The user's hooks.
        sims: What the session's simulated machines play; empty where strangers boot.
        outcomes: Of the runs.
        issues: Titles of all that are filed.
        attempts: That a run may have.
        heard: Every report finds a lab that takes it.
        strangers: How many there are.
    """

    conftest: str = ""
    sims: Mapping[str, str] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(
        default_factory=lambda: {"a.efi": "passed", "b.efi": "failed", "c.efi": "passed"}
    )
    issues: tuple[str, ...] = ("broken",)
    attempts: int = 1
    heard: bool = True
    strangers: int = 2


PLAIN = Play()
JUDGED = Play(
    conftest=JUDGES,
    outcomes={**PLAIN.outcomes, "c.efi": "failed"},
    issues=("judged: broken",),
)
OWN = Play(sims=SIMS, strangers=0, issues=("b.efi",), attempts=2)


@dataclass(frozen=True)
class Scene:
    """A folder of workloads, and a lab with an address of its own.

    Attributes:
        url: Of the journal's database; empty where it is a file.
    """

    play: Play
    folder: Path
    host: str
    github: FakeGitHub
    url: str = ""

    @property
    def journal(self) -> Path:
        return self.folder / "journal.db"

    @property
    def repo(self) -> str:
        return f"me/lab-{self.folder.name}"

    @property
    def options(self) -> list[str]:
        machines = ["--dispatch-machine=sim:2?pace=0.001"] if self.play.sims else []
        return [
            *machines,
            IN_THREAD,
            "-v",
            "--dispatch-dir=w",
            f"--dispatch-db={self.url or self.journal}",
            f"--dispatch-bind={self.host}:{PORT}",
            "--dispatch-no-mdns",
            "--dispatch-drain=0",
            "--dispatch-assign-timeout=30s",
            "--dispatch-report-timeout=30s",
            "--dispatch-issues=failed",
            f"--dispatch-issues-repo={self.repo}",
            f"--dispatch-api-url={self.github.url}",
        ]

    def prepare(self) -> None:
        (self.folder / "w").mkdir(parents=True)
        (self.folder / "tmp").mkdir()  # a lab that is killed with its pytest leaves its own there
        for name in SAYS:
            plays(self.folder / "w" / name, self.play.sims.get(name, "pass"))
        (self.folder / "conftest.py").write_text(self.play.conftest)
        self.github.add_repo(self.repo)

    def run(self, forks: Forks, *args: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run pytest; returns its exit code and what it printed."""
        log = self.folder / f"log-{len(list(self.folder.glob('log-*')))}.txt"
        folders = {"XDG_CACHE_HOME": str(self.folder / "user-cache"), "TMPDIR": str(self.folder / "tmp")}
        own = {"GITHUB_TOKEN": self.github.token, "GITHUB_API_URL": self.github.url, **folders}
        code = forks.pytest(self.folder, *self.options, *args, log=log, environ={**own, **(environ or {})})
        return code, log.read_text()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        engine = sa.create_engine(self.url or f"sqlite:///{self.journal}")
        try:
            with engine.connect() as db:
                return [tuple(row) for row in db.execute(sa.text(sql))]
        finally:
            engine.dispose()

    def ended(self) -> bool:
        """Whether a session was closed: its last act."""
        try:
            return bool(self.rows("SELECT 1 FROM dispatch_sessions WHERE closed IS NOT NULL"))
        except (sa.exc.OperationalError, sa.exc.ProgrammingError):
            return False  # there are no tables yet


def wrong_with(scene: Scene) -> Iterator[str]:
    """What does not hold once all is over."""
    play = scene.play
    runs = scene.rows("SELECT name, outcome, attempts FROM dispatch_runs")
    if sorted((name, outcome) for name, outcome, _ in runs) != sorted(play.outcomes.items()):
        yield f"runs: {runs}"
    if any(int(attempts) > play.attempts for _, _, attempts in runs):
        yield f"attempts: {runs}"
    ends = scene.rows("SELECT run, attempt, count(*) FROM dispatch_moments WHERE phase = 'over' GROUP BY run, attempt")
    if len(ends) != sum(int(attempts) for _, _, attempts in runs) or any(int(n) != 1 for _, _, n in ends):
        yield f"ended: {ends}"
    issues = Counter(issue.title for issue in scene.github.issues(scene.repo))
    if issues != Counter(play.issues):
        yield f"issues: {issues}"


def lost_with(scene: Scene, strangers: Sequence[Stranger]) -> Iterator[str]:
    """Reports that are not where they should be, and machines that were turned away."""
    said = scene.rows("SELECT name, title FROM dispatch_reports JOIN dispatch_runs ON dispatch_runs.id = run")
    acknowledged = [each for stranger in strangers for each in stranger.acknowledged]
    if lost := Counter(acknowledged) - Counter(said):
        yield f"acknowledged, but not in the journal: {lost}"
    if scene.play.heard and sorted(said) != ALL_SAID:
        yield f"reports in the journal: {said}"
    if scene.play.heard and sorted(acknowledged) != ALL_SAID:
        yield f"reports acknowledged: {acknowledged}"
    if refused := [each for stranger in strangers for each in stranger.refused]:
        yield f"refused: {refused}"


#: What happens to a session; whether it was cut off.
Story = Callable[[Scene, Forks], bool]


class Stage:
    """Where scenes are played, several at the same time; a context manager.

    Args:
        folder: For their folders.
        server: URL of a PostgreSQL server, where each gets a database of its own; empty where journals are files.
    """

    def __init__(self, folder: Path, server: str = "") -> None:
        self._folder = folder
        self._server = server
        self._free: SimpleQueue[Forks] = SimpleQueue()
        self._numbers = count(1)
        self._stack = ExitStack()

    def __enter__(self) -> Stage:
        self._github = self._stack.enter_context(FakeGitHub())
        for _ in range(AT_ONCE):
            self._free.put(self._stack.enter_context(Forks(preloaded())))
        self._pool = self._stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, play: Play, story: Story) -> tuple[bool, list[str]]:
        """Play a story; returns what it says, and what is wrong after it."""
        scene, machines, crashed = self.tell(play, story)
        return crashed, [*wrong_with(scene), *(lost_with(scene, machines) if machines else ())]

    def tell(self, play: Play, story: Story) -> tuple[Scene, list[Stranger], bool]:
        """Play a story; returns where, with which machines, and what it says."""
        number, forks = next(self._numbers), self._free.get()
        host = f"127.{1 + os.getpid() % 250}.{number // 250}.{1 + number % 250}"  # each its own: no port is in use
        url = new_database(self._server) if self._server else ""
        scene = Scene(play, self._folder / str(number), host, self._github, url)
        scene.prepare()
        addresses = [f"127.0.0.{2 + n}" for n in range(play.strangers)]
        try:
            with ExitStack() as stack:
                machines = [stack.enter_context(Stranger(host, PORT, address, SAYS)) for address in addresses]
                crashed = story(scene, forks)
        finally:
            self._free.put(forks)
        return scene, machines, crashed

    def walk(self, play: Play, story_at: Callable[[int], Story], *, sure: int, sampled: int) -> list[str]:
        """Crash at steps that are drawn, with `make torture` at every one; returns what is wrong, and after which step.

        Args:
            play: What is played.
            story_at: Makes the story that crashes at a step, if it comes to it.
            sure: Steps that every session comes to.
            sampled: How many are drawn of these, and half as many of the next ones.
        """
        steps = [
            *drawn(range(1, sure + 1), sampled),
            *drawn(range(sure + 1, MOST if TORTURE else 2 * sure), sampled // 2),
        ]
        wrong = []
        for some in (steps[first : first + AT_ONCE] for first in range(0, len(steps), AT_ONCE)):
            played = list(self._pool.map(lambda step: self.play(play, story_at(step)), some))
            for step, (crashed, texts) in zip(some, played, strict=True):
                wrong += [f"step {step}: {text}" for text in texts]
                wrong += [f"step {step}: no crash"] * (step <= sure and not crashed)
            if some[0] > sure and not any(crashed for crashed, _ in played):
                return wrong  # the session is over before it comes to these
        return [*wrong, f"a session has more than {MOST} steps"] if TORTURE else wrong
