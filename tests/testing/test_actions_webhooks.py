"""Webhooks of the fake GitHub: signed and as GitHub describes them; lost, doubled and reordered by a seed."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from actions_client import REPO
from github_openapi import payload_complaints
from waiting import wait_until

from pytest_dispatch.testing.actions import Hook, Job, ScriptedClock, Workflow
from pytest_dispatch.testing.github import FakeGitHub


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent: headers and body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook"

    def told(self) -> list[tuple[str, str]]:
        return [(headers["X-GitHub-Event"], json.loads(body)["action"]) for headers, body in self.got]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers.items()), body))
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def play(github: FakeGitHub, clock: ScriptedClock, runs: int = 1, **job: object) -> None:
    """Have some runs go from their start to their end, one after another."""
    github.actions.add_workflow(REPO, Workflow(jobs=(Job(name="test", **job),)))  # type: ignore[arg-type]
    github.actions.add_runner("me", "rpi-01")
    for _ in range(runs):
        github.actions.start(REPO)
        clock.advance(1)


ALL = [
    ("workflow_run", "requested"),
    ("workflow_job", "queued"),
    ("workflow_job", "in_progress"),
    ("workflow_run", "in_progress"),
    ("workflow_job", "completed"),
    ("workflow_run", "completed"),
]


def test_each_change_of_runs_and_jobs_is_told(
    clocked_github: FakeGitHub, github_clock: ScriptedClock, receiver: Receiver
) -> None:
    hook = clocked_github.actions.add_hook(Hook(url=receiver.url, secret="s3cret"))
    play(clocked_github, github_clock)
    wait_until(lambda: receiver.told() == ALL)
    wait_until(lambda: [each.statuses for each in hook.deliveries] == [[202]] * len(ALL))
    for headers, body in receiver.got:
        mac = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
        assert headers["X-Hub-Signature-256"] == f"sha256={mac}"
        assert payload_complaints(headers["X-GitHub-Event"], json.loads(body)) == []


def test_a_job_that_waits_for_approval_is_told_and_who_cancelled_is_the_sender(
    clocked_github: FakeGitHub, github_clock: ScriptedClock, receiver: Receiver
) -> None:
    clocked_github.actions.add_hook(Hook(url=receiver.url))
    play(clocked_github, github_clock, environment="lab")
    clocked_github.actions.cancel(clocked_github.actions.runs(REPO)[0], by="stranger")
    wait_until(lambda: ("workflow_run", "completed") in receiver.told())
    assert ("workflow_job", "waiting") in receiver.told()
    last = json.loads(receiver.got[-1][1])
    assert (last["sender"]["login"], last["workflow_run"]["conclusion"]) == ("stranger", "cancelled")
    complaints = [payload_complaints(headers["X-GitHub-Event"], json.loads(body)) for headers, body in receiver.got]
    assert not any(complaints)
    assert all("X-Hub-Signature-256" not in headers for headers, _ in receiver.got)


def test_webhooks_are_lost_doubled_and_reordered(
    clocked_github: FakeGitHub, github_clock: ScriptedClock, receiver: Receiver
) -> None:
    hook = Hook(url=receiver.url, lost=0.2, doubled=0.3, reordered=0.3, seed=5)
    clocked_github.actions.add_hook(hook)
    play(clocked_github, github_clock, runs=20)
    copies = {"sent": 1, "lost": 0, "doubled": 2, "late": 1}
    wanted = Counter({each.id: copies[each.fate] for each in hook.deliveries if copies[each.fate]})
    wait_until(lambda: len(receiver.got) >= wanted.total())
    assert Counter(headers["X-GitHub-Delivery"] for headers, _ in receiver.got) == wanted
    assert {each.fate for each in hook.deliveries} == set(copies)
    order = {each.id: number for number, each in enumerate(hook.deliveries)}
    came = [order[headers["X-GitHub-Delivery"]] for headers, _ in receiver.got]
    assert came != sorted(came)


def test_the_fate_of_webhooks_follows_from_the_seed() -> None:
    def fates(seed: int) -> list[str]:
        clock = ScriptedClock()
        with FakeGitHub(clock=clock) as github:
            hook = Hook(url="http://127.0.0.1:9/", lost=0.3, doubled=0.3, reordered=0.3, seed=seed)
            play_into = github.actions.add_hook(hook)
            play(github, clock, runs=5)
            return [each.fate for each in play_into.deliveries]

    assert fates(1) == fates(1) != fates(2)


def test_one_held_back_is_sent_in_the_end(
    clocked_github: FakeGitHub, github_clock: ScriptedClock, receiver: Receiver
) -> None:
    clocked_github.actions.add_hook(Hook(url=receiver.url, reordered=1, events=("workflow_run",)))
    play(clocked_github, github_clock)
    wait_until(lambda: len(receiver.got) == 3)


def test_a_receiver_that_is_away_is_not_asked_again(
    clocked_github: FakeGitHub, github_clock: ScriptedClock, receiver: Receiver
) -> None:
    away = clocked_github.actions.add_hook(Hook(url="http://127.0.0.1:9/", events=("workflow_run",)))
    clocked_github.actions.add_hook(Hook(url=receiver.url, events=("workflow_run",)))
    play(clocked_github, github_clock)
    wait_until(lambda: len(receiver.got) == 3)
    assert [each.statuses for each in away.deliveries] == [[0]] * 3


def test_a_fake_that_has_stopped_sends_nothing_and_still_counts(receiver: Receiver) -> None:
    clock = ScriptedClock()
    with FakeGitHub(clock=clock) as github:
        hook = github.actions.add_hook(Hook(url=receiver.url))
    play(github, clock)
    assert [each.statuses for each in hook.deliveries] == [[]] * len(ALL)
    assert receiver.got == []
