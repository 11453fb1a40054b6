"""A lab to look at: simulated machines and real firmware, a fake GitHub with runners, a day of history, live traffic.

Run by `make demo-lab`; Ctrl-C ends it. Everything is on this computer, in a folder that is removed afterwards.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from pytest_dispatch.core.clock import SteadyClock
from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.lab_program.in_process import InProcessLab, make_machines
from pytest_dispatch.lab_program.lab_file.lab_config import read_service
from pytest_dispatch.lab_program.option_values import read_spec
from pytest_dispatch.testing.actions import Annotation, Input, Job, Workflow
from pytest_dispatch.testing.github import FakeGitHub

HOUR = 3600.0
SIZE = 64  # bytes of a workload that a simulated machine plays
PATIENCE = 120.0  # seconds that an hour of history may take
MOST = 12  # runs that wait at once, at which nobody queues more

#: What the simulated machines boot, and what they play in its place.
PLAYED = {
    "memory": "pass",
    "disks": "pass",
    "network": "multi-report",
    "sensors": "drop-download",
    "usb": "pass",
    "tpm": "fail",
    "suspend": "come-back",
    "first-boot": "no-boot",
}
#: How often each of them is queued, beside the others.
WEIGHTS = (8, 8, 6, 5, 6, 2, 1, 1)
#: What real firmware boots: programs of `make demo`.
REAL = ("pass.efi", "fail.efi")
REPO = "my-org/firmware"
WORKFLOWS = {
    "smoke": Job(name="boot", runs_on=("rpi",), seconds=12),
    "soak": Job(name="memory", runs_on=("rpi",), seconds=40),
    "flash": Job(
        name="flash",
        runs_on=("rpi",),
        seconds=8,
        conclusion="failure",
        steps=("Set up job", "Write the image", "Verify"),
        annotations=(Annotation(message="the image differs from what was written"),),
    ),
}
PEOPLE = ("ada", "grace", "edsger")
CYCLE = "quick-tests"
#: What somebody has a round of the cycle run beside its schedule, by the hours that are left of the history.
ASKED = {16: "memory or disks or tpm", 8: "memory or usb or suspend"}

FILE = """\
server: {{boot: "127.0.0.1:0", api: "127.0.0.1:{port}", announce: false}}
database: {{url: lab.db}}
github: {{api_url: "{github}", tokens: {{"*": {token}}}, polling: {{interval: 2s}}}}
sources: {{cache: assets, folders: {{boards: boards, demo: "{demo}"}}}}
machines: [{machines}]
groups:
- id: boards
  description: Simulated machines
  labels: [board]
  templates:
{boards}
- id: virtual
  description: Real firmware under QEMU
  labels: [virtual]
  templates:
{real}
- id: runners
  description: Self-hosted runners of a fake GitHub
  labels: [rpi]
  templates:
{workflows}
cycles:
- name: quick-tests
  description: What every board must pass, again and again
  folder: .
  arguments: [--dispatch-dir=boards, -k, "{{what}}", -p, "no:cacheprovider"]
  every: 6h
  group: boards
  parameters: {{what: {{pattern: "[a-z -]*", default: "memory or disks or usb"}}}}
"""
BOOT = (
    '  - {{id: {name}, kind: boot, payload: {{media: efi, location: "folder:{place}", size: {size}}},'
    " limits: {{report: 60s}}}}"
)
ACTIONS = (
    "  - {{id: {name}, kind: actions,"
    " payload: {{owner: my-org, repo: firmware, workflow: {name}.yml, correlation: dispatch}}}}"
)


class LateClock(SteadyClock):
    """Time that is some hours behind, and catches up as somebody says.

    Args:
        hours: How many.
    """

    def __init__(self, hours: int) -> None:
        super().__init__()
        self.behind = hours * HOUR

    def now(self) -> float:
        """Return the time in epoch seconds."""
        return super().now() - self.behind


class Visitor:
    """Somebody who queues things.

    Args:
        url: Address of the lab.
        token: Token of the one who does.
        over: Is set when all is to end.
    """

    def __init__(self, url: str, token: str, over: threading.Event) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=30)
        self._over = over

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask the lab for something.

        Raises:
            httpx.HTTPError: It does not answer, or refuses.
        """
        reply = self._client.request(method, path, json=body)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def queue(self, group: str, template: str) -> None:
        """Queue a template."""
        self.ask("POST", f"/groups/{group}/queue", {"template": template})

    def waiting(self, group: str) -> int:
        """Return how many runs of a group wait."""
        return len(self.ask("GET", f"/groups/{group}/queue")["runs"])

    def _is_busy(self, group: str) -> bool:
        rounds = self.ask("GET", f"/cycles/{CYCLE}")["running"]
        return bool(self.waiting(group) or self.ask("GET", "/runs") or rounds)

    def until_idle(self, group: str) -> None:
        """Return when nothing waits or runs, or when all is to end.

        Raises:
            TimeoutError: It takes too long.
        """
        give_up = time.monotonic() + PATIENCE
        while self._is_busy(group) and not self._over.wait(0.1):
            if time.monotonic() > give_up:
                raise TimeoutError(f"an hour of history took more than {PATIENCE:g} seconds")


def main(words: list[str]) -> int:
    """Show a lab until Ctrl-C."""
    wanted = _arguments().parse_args(words)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="dispatch-demo-lab-")))
        github = parts.enter_context(FakeGitHub())
        _prepare(github)
        configure(folder, github, wanted)
        clock = LateClock(wanted.hours)
        config, service = read_service(folder / "lab.yaml", {})
        lab = InProcessLab(config, service, clock=clock)
        lab.start("")
        parts.callback(lab.stop)
        _show(lab, clock, wanted, over)
    print("The lab has ended.", flush=True)
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Show a lab with a day of history and live traffic.")
    parser.add_argument("--port", type=int, default=8090, help="port of its pages on this computer; 0 for a free one")
    parser.add_argument("--machines", type=int, default=8, help="simulated machines")
    parser.add_argument("--qemu", type=int, default=2, help="machines with real firmware")
    parser.add_argument("--hours", type=int, default=24, help="hours of history")
    parser.add_argument("--pause", type=float, default=4.0, help="seconds from one new run to the next")
    return parser


def _prepare(github: FakeGitHub) -> None:
    """Give a fake GitHub its repository, workflows and runners."""
    github.add_repo(REPO)
    for name, job in WORKFLOWS.items():
        path, inputs = f".github/workflows/{name}.yml", {"dispatch": Input()}
        github.actions.add_workflow(REPO, Workflow(jobs=(job,), path=path, inputs=inputs))
    for name in ("rpi-01", "rpi-02", "rpi-03"):
        github.actions.add_runner("my-org", name, ("rpi",))


def configure(folder: Path, github: FakeGitHub, wanted: argparse.Namespace) -> None:
    """Write the lab's configuration and the workloads of its simulated machines."""
    (folder / "boards").mkdir()
    for name, scenario in PLAYED.items():
        (folder / "boards" / f"{name}.efi").write_bytes(f"sim: {scenario}\n".encode().ljust(SIZE, b"\0"))
    demo = Path(__file__).parent / "demo"
    machines = [f'{{id: board-{n}, labels: [board], driver: "sim?pace=0.05"}}' for n in range(1, wanted.machines + 1)]
    machines += [f"{{id: virtual-{n}, labels: [virtual], driver: qemu}}" for n in range(1, _real(wanted.qemu) + 1)]
    boards = [BOOT.format(name=name, place=f"boards/{name}.efi", size=SIZE) for name in PLAYED]
    real = [
        BOOT.format(name=f"real-{name[:-4]}", place=f"demo/{name}", size=(demo / name).stat().st_size) for name in REAL
    ]
    text = FILE.format(
        port=wanted.port,
        github=github.url,
        token=github.token,
        demo=demo,
        machines=", ".join(machines),
        boards="\n".join(boards),
        real="\n".join(real),
        workflows="\n".join(ACTIONS.format(name=name) for name in WORKFLOWS),
    )
    (folder / "lab.yaml").write_text(text, "utf-8")


def _real(count: int) -> int:
    """Return how many machines with real firmware there can be; without QEMU none, which is said."""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            make_machines(read_spec(f"qemu:{count}"), Path(scratch)) if count else None
    except MachineError as missing:
        print(f"No real firmware here ({missing}); going on with simulated machines.", flush=True)
        return 0
    return count


def _show(lab: InProcessLab, clock: LateClock, wanted: argparse.Namespace, over: threading.Event) -> None:
    """Let the lab live through its history, print where it is to be seen, and keep it busy until all is to end."""
    owner = Visitor(lab.url, lab.token, over)
    people = [_person(owner, lab, name, over) for name in PEOPLE]
    chance = random.Random(0)  # noqa: S311 - for variety
    _live_through(wanted.hours, clock, chance, people, owner, over)
    if over.is_set():
        return
    link = owner.ask("POST", f"/users/{PEOPLE[0]}/link")["path"]
    print(f"Sign in as an administrator, once: {lab.url}{link}\nCtrl-C ends it.", flush=True)
    groups = {"boards": list(PLAYED), "runners": list(WORKFLOWS)}
    if _has_real(owner):
        groups["virtual"] = [f"real-{name[:-4]}" for name in REAL]
    while not over.wait(wanted.pause):
        group = chance.choice([*groups, "boards", "boards"])
        if owner.waiting(group) >= MOST:
            continue
        if group == "boards":
            _queue_board(chance, people)
        else:
            chance.choice(people).queue(group, chance.choice(groups[group]))


def _live_through(
    hours: int, clock: LateClock, chance: random.Random, people: list[Visitor], owner: Visitor, over: threading.Event
) -> None:
    """Have the lab live through its history, hour by hour."""
    print(f"The lab lives through {hours} hours of history …", flush=True)
    people[0].ask("POST", f"/cycles/{CYCLE}/schedule", {})
    while clock.behind and not over.is_set():
        if what := ASKED.get(round(clock.behind / HOUR)):
            people[1].ask("POST", f"/cycles/{CYCLE}/rounds", {"values": {"what": what}})
        for _ in range(chance.randint(2, 8)):
            _queue_board(chance, people)
        owner.until_idle("boards")
        clock.behind = max(0.0, clock.behind - HOUR)


def _has_real(owner: Visitor) -> bool:
    return any(each["id"].startswith("virtual-") for each in owner.ask("GET", "/machines"))


def _person(owner: Visitor, lab: InProcessLab, name: str, over: threading.Event) -> Visitor:
    """Add a user, the first one as an administrator, and return them with a token of theirs."""
    owner.ask("POST", "/users", {"name": name, "role": "admin" if name == PEOPLE[0] else "operator"})
    made = owner.ask("POST", "/tokens", {"label": "queues things", "user": name})
    return Visitor(lab.url, made["secret"], over)


def _queue_board(chance: random.Random, people: list[Visitor]) -> None:
    [template] = chance.choices(list(PLAYED), WEIGHTS)
    chance.choice(people).queue("boards", template)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
