"""Who uses a lab for a week in fast motion: sessions as pytest has them, people, browsers, and viewers of events."""

from __future__ import annotations

import asyncio
import math
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
from boots import boots
from week_lab import DAY, HOUR, PASSWORD, WeekLab

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.model import Policy, Run
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.server.api.schemas import LeaseWanted, OpenSession, RunChange, RunRequest

LIMITS = {"assign": 6 * HOUR, "boot": 900.0, "report": 1800.0}
LOOK = 0.1  # seconds between requests of a session that waits
TOKEN = DAY  # seconds that a token of a user lasts

TEAMS = [f"team-{number}" for number in range(5)]

#: How often a workload does what, of a thousand; all others pass.
PLAYED = {
    "fail": 80,
    "multi-report": 40,
    "duplicate": 20,
    "come-back": 10,
    "drop-download": 10,
    "hang": 6,
    "no-boot": 6,
    "late": 4,
}
#: What is to come of it, whatever machine has it.
OUTCOMES = {"pass": "passed", "fail": "failed", "multi-report": "passed", "duplicate": "passed"}


@dataclass
class Session:
    """One as a pytest has it: it submits, follows the events, and asks now and then.

    Attributes:
        heard: When the lab has heard it last, by the lab's clock; no time passes until it has submitted.
        follows: Whether it is seen to follow its events, so that its lease lasts longer.
        played: What each of its runs plays, by key.
        sent_home: Whether it is to wait no longer.
        ended: The outcome of each, by key.
        attempts: All attempts of those that came to something else than they should.
    """

    week: WeekLab
    token: str
    source: str
    name: str
    folder: Path
    played: dict[str, str]
    heard: float = -math.inf
    id: str = ""
    follows: bool = False
    sent_home: bool = False
    ended: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, str] = field(default_factory=dict)

    def attend(self, fate: str) -> None:
        """Be one from its beginning to its end, which `fate` says: `end`, `killed`, `kept` or `left`."""
        with closing(LabClient(self.week.lab.url, self.token)) as client:
            self._submit(client, resume=False)
            self._follow(client, len(self.played) if fate == "end" else len(self.played) // 2)
            self._finish(client, fate)

    def resume(self) -> None:
        """Come back as another process does, and see it to its end."""
        self.heard, self.follows = -math.inf, False
        with closing(LabClient(self.week.lab.url, self.token)) as client:
            self._submit(client, resume=True)
            self._follow(client, len(self.played))
            self._finish(client, "end")

    def _finish(self, client: LabClient, fate: str) -> None:
        views = client.runs(self.id)
        assert fate != "end" or all(view.run.outcome for view in views), [view.run for view in views]
        if fate == "left":
            client.leave(self.id)
        elif fate != "killed":
            client.end(self.id, kept=fate == "kept")

    def _submit(self, client: LabClient, *, resume: bool) -> None:
        lease = LeaseWanted(owner=self.name)
        opened = client.open(OpenSession(source=self.source, policy=Policy(limits=LIMITS), resume=resume, lease=lease))
        self.id = opened.id
        wanted = [RunRequest(key=key, workload=self._workload(key, plays)) for key, plays in self.played.items()]
        views = client.submit(self.id, wanted)
        self.ended = {view.run.key: str(view.run.outcome) for view in views if view.run.outcome is not None}

    def _workload(self, key: str, plays: str) -> Any:
        """What it uploads; other teams have other bytes."""
        path = self.folder / f"{self.source}-{plays}.efi"
        size = ("small", "large")[int(key.rpartition("::")[2]) % 2]
        words = (f"size={size}", *(("rack",) if plays == "late" else ()))  # the lab's own machines cannot play that
        requires = read_requirements(words, "requires")
        return boots(f"{plays}.efi", location=str(path), size=path.stat().st_size, requires=requires)

    def _follow(self, client: LabClient, most: int) -> None:
        """Return when so many runs have their outcome."""
        if len(self.ended) >= most:
            return
        enough = threading.Event()
        following = threading.Thread(target=self._listen, args=(client, most, enough), name="events of a session")
        following.start()
        while not enough.wait(LOOK) and not self.sent_home:
            client.session(self.id)
            self.heard = self.week.clock.now()
        self.heard = -math.inf  # no time passes until it has ended
        while following.is_alive():  # whoever is sent home may hang up before the stream is there
            client.connection.hang_up()
            following.join(LOOK)

    def _listen(self, client: LabClient, most: int, enough: threading.Event) -> None:
        try:
            with suppress(LabError):
                for _, said in client.changes(self.id, 0):
                    self.follows = True
                    if isinstance(said, RunChange) and said.run.outcome is not None:
                        self._hear(said.run)
                    if len(self.ended) >= most:
                        return
        finally:
            enough.set()

    def _hear(self, run: Run) -> None:
        self.ended[run.key] = str(run.outcome)
        if OUTCOMES.get(self.played[run.key], run.outcome) != run.outcome:
            self.attempts[run.key] = "\n".join(map(str, run.attempts))


@dataclass
class People:
    """Everybody who uses the lab, in threads and tasks of the test.

    Attributes:
        token: Of ada, which expires.
        sessions: Those that are under way.
        of_hour: All of this hour.
        outcomes: How many runs of sessions came to what, by what they played.
        surprises: The attempts of each run that came to something else than it should.
        seen: What else happened, counted.
    """

    week: WeekLab
    random: Random
    token: str = ""
    old: list[tuple[float, str]] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    of_hour: list[Session] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    _numbers: int = 0
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8, "people"))
    _http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        (self.week.folder / "clients").mkdir()
        self._write_workloads()
        self._http = httpx.Client(base_url=f"{self.week.lab.url}/api/v1", timeout=60.0)

    def close(self) -> None:
        """Send everybody home, also those who would wait for good."""
        for each in list(self.sessions):
            each.sent_home = True
        self._pool.shutdown(cancel_futures=True)
        self._http.close()

    # Sessions

    def _write_workloads(self) -> None:
        for team in TEAMS:
            for plays in ("pass", *PLAYED):
                content = f"sim: {plays}\n".encode() + f"{team} {plays} ".encode() * 300
                (self.week.folder / "clients" / f"{team}-{plays}.efi").write_bytes(content)

    def session(self, runs: int) -> asyncio.Future[None]:
        """Begin one with so many runs."""
        self._numbers += 1
        name = f"session-{self._numbers}"
        played = {f"{name}::{n}": self._plays() for n in range(runs)}
        session = Session(self.week, self.token, self.random.choice(TEAMS), name, self.week.folder / "clients", played)
        self.of_hour.append(session)
        fate = self.random.choices(["end", "killed", "kept", "left"], [88, 6, 3, 3])[0]
        comes_back = fate != "end" and self.random.random() < 0.5
        return asyncio.get_running_loop().run_in_executor(self._pool, self._attended, session, fate, comes_back)

    def _plays(self) -> str:
        drawn = self.random.randrange(1000)
        for plays, often in PLAYED.items():
            if (drawn := drawn - often) < 0:
                return plays
        return "pass"

    def _attended(self, session: Session, fate: str, comes_back: bool) -> None:
        session.token = self.token
        self.sessions.append(session)
        try:
            session.attend(fate)
            if comes_back:
                self._stay_away(session)
                session.resume()
        finally:
            self.sessions.remove(session)
        self.seen[f"session {fate}{' and resumed' if comes_back else ''}"] += 1
        if fate == "end" or comes_back:
            assert session.ended.keys() == session.played.keys()
        if fate == "end":
            self.outcomes.update((session.played[key], outcome) for key, outcome in session.ended.items())
            self.surprises += session.attempts.values()

    def _stay_away(self, session: Session) -> None:
        """Come back at once, or when the lease has ended."""
        until = self.week.clock.now() + self.random.choice([0.0, 600.0])
        session.heard = math.inf
        while self.week.clock.now() < until and not session.sent_home:
            time.sleep(LOOK)

    # Tokens and browsers

    def ask(self, method: str, path: str, body: object = None, token: str = "") -> httpx.Response:
        bearer = {"Authorization": f"Bearer {token or self.week.lab.token}"}
        answer = self._http.request(method, path, json=body, headers=bearer)
        self._http.cookies.clear()
        return answer

    def made(self, method: str, path: str, body: object = None) -> Any:
        answer = self.ask(method, path, body)
        assert answer.is_success, (method, path, answer.text)
        return answer.json() if answer.content else None

    def renew_token(self) -> None:
        """Make ada a token; the one before works until it expires."""
        made = self.made("POST", "/tokens", {"label": "ci", "user": "ada", "lasts": TOKEN})
        self.token = made["secret"]
        self.old.append((self.week.clock.now() + TOKEN, self.token))
        for expires, secret in list(self.old):
            status = self.ask("GET", "/groups", token=secret).status_code
            assert status == (401 if self.week.clock.now() > expires else 200)
            self.seen[f"token {status}"] += 1
            if status == 401:
                self.old.remove((expires, secret))

    def sign_in(self, password: str = PASSWORD) -> str:
        """Sign a browser in; returns its cookie, empty if it was refused."""
        answer = self._http.post("/sign-in", json={"name": "ada", "password": password})
        self.seen[f"sign-in {answer.status_code}"] += 1
        self._http.cookies.clear()
        return answer.headers["set-cookie"].partition(";")[0] if answer.is_success else ""

    # People

    def errands(self, hour: int) -> None:
        """What people do in an hour."""
        self.release_machines()
        self.sign_in("a guess")
        for _ in range(3):
            self.made("POST", "/groups/small/queue", {"template": "nightly", "owner": "ada"})
            self.seen["queued"] += 1
        held = self.made("POST", "/groups/small/queue", {"template": "nightly"})["id"]
        self.ask("POST", f"/runs/{held}/hold", {"reason": "not yet"})  # it may be over already
        self.ask("DELETE", f"/runs/{held}")
        until = self.week.clock.now() + HOUR / 4
        self.made("POST", f"/machines/rack-{1 + hour % 5}/hold", {"reason": "its fan is loud", "until": until})
        self.made("POST", "/groups/small/hold", {"reason": "dinner", "until": until})
        if hour % 2:
            self.made("DELETE", "/groups/small/hold")
        for path in ("/machines", "/groups/small/queue", "/audit", "/notifications"):
            self.made("GET", path)

    def release_machines(self) -> None:
        """Give machines work again that somebody holds, the lab itself for example after faults in a row."""
        for machine in self.made("GET", "/machines"):
            if machine["hold"] is not None:
                self.made("DELETE", f"/machines/{machine['id']}/hold")
                self.seen["released"] += 1

    def metrics(self) -> dict[str, float]:
        """What the lab says of itself now, by name and labels."""
        bearer = {"Authorization": f"Bearer {self.week.lab.token}"}
        text = self._http.get(f"{self.week.lab.url}/metrics", headers=bearer).text
        pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    # Viewers

    async def view(self, seconds: float | None, cookie: str = "", *, stalls: float = 0.0) -> str:
        """Follow the lab's events for a while, or for good; returns what ended that: `viewer`, or `lab`.

        It reads nothing in the first `stalls` seconds.
        """
        host, _, port = self.week.lab.url.removeprefix("https://").partition(":")
        context = ssl.create_default_context(cafile=str(self.week.folder / "ca.pem"))
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        by = f"Cookie: {cookie}" if cookie else f"Authorization: Bearer {self.token}"
        # Its end is that of the connection, which the lab would keep for the next request
        request = f"GET /api/v1/events HTTP/1.1\r\nHost: {host}:{port}\r\n{by}\r\nConnection: close\r\n\r\n"
        ended = "viewer"
        try:
            writer.write(request.encode())
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(seconds):
                    await asyncio.sleep(stalls)
                    while piece := await reader.read(2**16):
                        assert b"HTTP/1.1 4" not in piece, piece
                    ended = "lab"
        finally:
            writer.transport.abort()
        self.seen[f"stream ended by {ended}"] += 1
        return ended

    async def shown(self) -> str:
        """Which certificate a new connection gets."""
        host, _, port = self.week.lab.url.removeprefix("https://").partition(":")
        context = ssl.create_default_context(cafile=str(self.week.folder / "ca.pem"))
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
        subject = writer.get_extra_info("peercert")["subject"]
        writer.transport.abort()
        return str(dict(part for each in subject for part in each)["organizationName"])


def spread(random: Random, total: int, most: int = 40) -> Iterator[int]:
    """Sizes of sessions, so many runs in all."""
    while total > 0:
        size = min(total, random.randint(2, most))
        yield size
        total -= size


@contextmanager
def people_of(week: WeekLab, random: Random) -> Iterator[People]:
    people = People(week, random)
    try:
        yield people
    finally:
        people.close()
