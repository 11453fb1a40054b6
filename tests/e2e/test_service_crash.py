"""A service killed at every commit of its journal, under five sessions; then started again."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self

import pytest
from disk import killed, needs_shim
from faults import fault
from forks import ALONE, Forks, Run
from killable_service import KillableService
from plugin_bench import WITHOUT
from strangers import Stranger
from torture import QUICK, TORTURE, drawn
from waiting import PATIENCE

pytestmark = needs_shim

SESSIONS = 5
MACHINES = 3
SURE = 20  # steps that five sessions have at least, the beginnings and ends of commits
MOST = 120  # they have far fewer
SAYS = {f"{session}{name}.efi": [{"title": f"{session}{name}"}] for session in range(SESSIONS) for name in ("a", "b")}
ALL_SAID = Counter((name, str(report["title"])) for name, said in SAYS.items() for report in said)

_numbers = count(1)

FILE = """\
server: {{boot: "{host}:8765", api: "{host}:8766", announce: false, allow: [127.0.0.0/8], unknown_machines: welcome}}
database: {{url: lab.db}}
sources: {{cache: assets, folders: {{kept: kept}}}}
machines:
- {{id: withheld, labels: [quiet], identities: {{addresses: [127.0.0.99]}}}}
groups:
- id: all
- id: quiet
  labels: [quiet]
  templates:
  - {{id: later, kind: boot, payload: {{media: efi, location: "folder:kept/later.efi", size: 16}}}}
"""


@dataclass
class Service(KillableService):
    """One that is killed at a commit, and started again."""

    queued: str = ""

    def __enter__(self) -> Self:
        (self.folder / "kept").mkdir(parents=True)
        (self.folder / "kept" / "later.efi").write_bytes(b"M" * 16)
        (self.folder / "lab.yaml").write_text(FILE.format(host=self.host))
        return self

    def hold(self) -> None:
        """Hold a machine, pause a group, and hold a run in that group's queue."""
        self.ask("POST", "/machines/withheld/hold", {"reason": "its fan is loud"})
        self.ask("POST", "/groups/quiet/hold", {"reason": "it is night"})
        self.queued = self.ask("POST", "/groups/quiet/queue", {"template": "later"})["id"]
        self.ask("POST", f"/runs/{self.queued}/hold", {"reason": "not yet"})

    def held(self) -> list[str]:
        """Why these are held."""
        [run] = self.ask("GET", "/groups/quiet/queue")["runs"]
        machine = self.ask("GET", "/machines/withheld")
        return [json.dumps(each, sort_keys=True) for each in (machine, self.ask("GET", "/groups/quiet"), run)]


def sessions_of(service: Service, forks: Forks) -> list[Run]:
    """Start the sessions; returns when each has its runs in the queue."""
    runs = []
    for session in range(SESSIONS):
        folder = service.folder / f"session-{session}"
        (folder / "w").mkdir(parents=True)
        for name in SAYS:
            if name.startswith(str(session)):
                (folder / "w" / name).write_bytes(b"M" * 16)
        words = ("--dispatch-dir=w", f"--dispatch-lab={service.url}", *WITHOUT, *ALONE, "-p", "no:cacheprovider")
        environ = {**os.environ, "DISPATCH_TOKEN": service.token}
        drain = "--dispatch-drain=0"
        runs.append(forks.start(folder, *words, drain, out=folder / "out", environ=environ))
    give_up = time.monotonic() + PATIENCE
    for session in range(SESSIONS):
        while "collected 2 items" not in (said := (service.folder / f"session-{session}" / "out").read_text()):
            assert time.monotonic() < give_up, said
            time.sleep(0.01)
    return runs


def crash_at(step: int, service: Service, forks: Forks) -> tuple[bool, list[str]]:
    """Kill the service at a step, start it again; returns whether it came to that, and what is wrong in the end."""
    environ = killed(service.folder / "lab.db", step, commits=True)
    service.start(**environ, DISK_SIGN=str(service.sign))
    service.hold()
    held = service.held()
    runs = sessions_of(service, forks)
    service.sign.touch()
    crashed = False
    with ExitStack() as stack:
        port, addresses = 8765, [f"127.0.0.{2 + number}" for number in range(MACHINES)]
        machines = [stack.enter_context(Stranger(service.host, port, each, SAYS)) for each in addresses]
        give_up = time.monotonic() + PATIENCE
        while any(run.poll() is None for run in runs):
            if service.ended() is not None:
                assert not crashed, (service.folder / "errors").read_text()
                crashed = True
                service.start()
            assert time.monotonic() < give_up, [each.read_text() for each in service.folder.glob("session-*/out")]
            time.sleep(0.02)
    if service.ended() is not None:
        crashed = True
        service.start()
    return crashed, list(wrong_with(service, runs, machines, held))


def wrong_with(service: Service, runs: list[Run], machines: list[Stranger], held: list[str]) -> Iterator[str]:
    codes = [run.poll() for run in runs]
    if any(codes):
        texts = [(service.folder / f"session-{n}" / "out").read_text() for n, code in enumerate(codes) if code]
        yield f"sessions: {codes}: {texts}"
    if service.held() != held:
        yield f"held: {service.held()}, was: {held}"
    acknowledged = Counter(each for machine in machines for each in machine.acknowledged)
    if acknowledged != ALL_SAID:
        yield f"acknowledged: {acknowledged}"
    kept = "SELECT name, title FROM dispatch_reports JOIN dispatch_runs ON dispatch_runs.id = run"
    if (said := Counter(service.rows(kept))) != ALL_SAID:
        yield f"reports in the journal: {said}"
    done = service.rows(f"SELECT name, outcome, attempts FROM dispatch_runs WHERE id <> '{service.queued}'")
    if sorted(done) != sorted((name, "passed", 1) for name in SAYS):
        yield f"runs: {done}"
    if refused := [each for machine in machines for each in machine.refused]:
        yield f"refused: {refused}"


@fault(
    "Crashes",
    "a service is killed (SIGKILL) at any commit of its journal under five sessions, before or after it is on disk",
    outcome="started again: no report is lost, nothing is run twice, machines go on, and what was held is held",
    told="`the lab is back after …`",
)
@pytest.mark.draw(1, of="services that are killed")
def test_a_service_that_is_killed_at_any_commit_goes_on(tmp_path: Path, forks: Forks) -> None:
    further = [] if QUICK else drawn(range(SURE + 1, MOST if TORTURE else 2 * SURE), 1)
    wrong, last = [], 0
    for step in [*drawn(range(1, SURE + 1), 1), *further]:
        host = f"127.{1 + os.getpid() % 250}.77.{1 + next(_numbers) % 250}"
        with Service(tmp_path / str(step), host) as service:
            crashed, texts = crash_at(step, service, forks)
        forks.end()
        wrong += [f"step {step}: {text}" for text in texts]
        wrong += [f"step {step}: no crash"] * (step <= SURE and not crashed)
        last = step
        if not crashed:
            break
    assert wrong == []
    assert last < MOST - 1, "there are more steps: raise MOST"
