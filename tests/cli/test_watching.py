"""`--watch`: what moves is shown as it moves."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from forks import Piped, dispatching
from forks import dispatch as forked
from operators import staffed_lab
from shared_labs import SharedLab
from waiting import PATIENCE

from pytest_dispatch.cli.output import watch
from pytest_dispatch.cli.page import said

pytestmark = pytest.mark.draw(1 / 3, of=__name__)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLab]:
    with staffed_lab(tmp_path_factory.mktemp("lab") / "here") as lab:
        yield lab


def environ(lab: SharedLab) -> dict[str, str]:
    return {**os.environ, "DISPATCH_LAB": lab.url, "DISPATCH_TOKEN": lab.token}


def dispatch(lab: SharedLab, line: str) -> str:
    ran = forked(lab.folder, *line.split(), environ=environ(lab))
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def watching(lab: SharedLab, line: str) -> AbstractContextManager[Piped]:
    return dispatching().piped(lab.folder, *line.split(), environ=environ(lab))


def test_each_change_is_a_line_of_json_and_ctrl_c_ends_it_well(lab: SharedLab) -> None:
    with watching(lab, "status --watch --json") as process:
        assert json.loads(process.stdout.readline())["groups"][0]["paused"] is None
        dispatch(lab, "groups pause left a look")
        seen = json.loads(process.stdout.readline())
        while seen["groups"][0]["paused"] is None:
            seen = json.loads(process.stdout.readline())
        assert seen["groups"][0]["paused"]["reason"] == "a look"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")


def test_no_page_in_a_pipe_is_the_same_as_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    watch((said(number, text) for number, text in enumerate(("a", "a", "b", "a"))), as_json=False)
    assert capsys.readouterr().out == "dispatch: a\n\ndispatch: b\n\ndispatch: a\n\n"


def test_a_run_is_watched_to_its_end(lab: SharedLab) -> None:
    dispatch(lab, "groups pause left not yet")
    run = json.loads(dispatch(lab, "templates queue smoke --json"))["id"]
    with watching(lab, f"runs show {run} --watch --json") as process:
        states = [json.loads(process.stdout.readline())["run"]["attempts"][-1]["history"][-1]["state"]]
        dispatch(lab, "groups resume left")
        seen = [json.loads(line) for line in process.stdout]
        states += [view["run"]["attempts"][-1]["history"][-1]["state"] for view in seen]
        assert process.wait(PATIENCE) == 0
    assert (states[0], states[-1], seen[-1]["run"]["outcome"]) == ("unassigned", "finished", "passed")


def test_the_queue_is_watched_as_runs_are_moved(lab: SharedLab) -> None:
    dispatch(lab, "groups pause left a look")
    first, second = (json.loads(dispatch(lab, f"templates queue {name} --json"))["id"] for name in ("smoke", "memory"))
    with watching(lab, "queue list --watch --json") as process:
        assert [run["id"] for run in json.loads(process.stdout.readline())["runs"]] == [first, second]
        dispatch(lab, f"queue top {second}")
        assert [run["id"] for run in json.loads(process.stdout.readline())["runs"]] == [second, first]


def test_a_lab_that_is_away_is_waited_for(lab: SharedLab) -> None:
    with watching(lab, "machines list --watch") as process:
        assert process.stdout.readline().startswith("MACHINE")
        lab.end()
        assert any("cannot be reached: " in line for line in iter(process.stdout.readline, ""))
        lab.start()
        assert any(line.startswith("epyc-1") for line in iter(process.stdout.readline, ""))
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_a_console_is_followed_until_its_attempt_is_over(lab: SharedLab) -> None:
    dispatch(lab, "groups resume left")
    run = json.loads(dispatch(lab, "templates queue hang --json"))["id"]
    with watching(lab, f"runs console {run} --follow") as process:
        assert any("hang.efi: memory:" in line for line in iter(process.stdout.readline, ""))
        dispatch(lab, f"queue cancel {run}")
        process.stdout.read()
        assert process.wait(PATIENCE) == 0


def test_ctrl_c_elsewhere_is_told_by_the_exit_code(lab: SharedLab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with watching(lab, f"queue list --lab http://127.0.0.1:{port}") as process:
            silent.settimeout(PATIENCE)
            connection, _ = silent.accept()
            assert connection.recv(4).startswith(b"GET")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE)
            connection.close()
    assert (process.returncode, errors) == (130, "")
