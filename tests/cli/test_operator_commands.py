"""`dispatch status`, `queue`, `machines`, `groups`, `runs` and `templates`, as an operator types them."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from operators import SIZE, Operator, as_operator, staffed_lab
from shared_labs import SharedLab
from waiting import PATIENCE

from pytest_dispatch.cli.command_table import Noun
from pytest_dispatch.cli.commands import COMMANDS
from pytest_dispatch.cli.main import main
from pytest_dispatch.cli.names import short_id
from pytest_dispatch.server.api.account_schemas import MadeToken


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLab]:
    with staffed_lab(tmp_path_factory.mktemp("lab") / "here") as lab:
        yield lab


@pytest.fixture
def operator(lab: SharedLab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    """Whose group `left` is paused, so that what is queued there waits."""
    somebody = as_operator(lab, capsys, monkeypatch)
    somebody.types("groups pause left a test")
    yield somebody
    for run in somebody.types("queue list --json").json["runs"]:
        somebody.types(f"queue cancel {run['id']}")
    somebody.types("groups resume left")


def until(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def order(operator: Operator) -> list[str]:
    return [run["id"] for run in operator.types("queue list --json").json["runs"]]


def test_the_queue_says_why_each_run_waits(operator: Operator) -> None:
    operator.types("machines hold rpi-01 a cable")
    operator.types("machines hold rpi-02 a cable")
    runs = [operator.queues("smoke"), operator.queues("memory")]
    _, *rows = operator.types("queue list").out.splitlines()
    assert all(row.endswith("group left is paused by lab: a test; 2 machines fit: 2 held") for row in rows), rows
    operator.types(f"queue hold {runs[1]} later")
    operator.types("groups resume left")
    _, first, second = operator.types("queue list").out.splitlines()
    assert first.endswith("  2 machines fit: 2 held")
    assert second.endswith("  held: later, by lab")
    operator.types(f"queue hold {runs[0]} first this")
    whys = [run["why"].partition(", ")[0] for run in operator.types("queue list --json").json["runs"]]
    assert whys == [f"it is held by lab: {why}; 2 machines fit: 2 held" for why in ("first this", "later")]
    for run in runs:
        operator.types(f"queue cancel {run}")
    for machine in ("rpi-01", "rpi-02"):
        operator.types(f"machines return {machine}")


def test_the_queue_is_shown_and_put_in_another_order(operator: Operator) -> None:
    first, second, third = operator.queues("smoke"), operator.queues("memory"), operator.queues("hang")
    heads, *rows = operator.types("queue list").lines
    assert heads == ["#", "RUN", "WORKLOAD", "GROUP", "PRIORITY", "OWNER", "WAITS", "WHY"]
    assert [row[2:6] for row in rows] == [
        [name, "left", "normal", "lab"] for name in ("smoke.efi", "memory.efi", "hang.efi")
    ]
    said = operator.types(f"queue top {short_id(third)}").out
    assert said == f"dispatch: hang.efi ({short_id(third)}) is at the top of the queue of left, priority normal\n"
    assert order(operator) == [third, first, second]
    operator.types(f"queue move smoke.efi --after {second}")
    assert order(operator) == [third, second, first]
    operator.types("queue move hang.efi --before smoke.efi")
    assert order(operator) == [second, third, first]
    operator.types("queue move memory.efi --bottom")
    assert order(operator) == [third, first, second]


def test_a_run_is_held_released_and_cancelled(operator: Operator) -> None:
    run = operator.queues("smoke", "--priority", "high")
    held = operator.types(f"queue hold {run[:15]} waits for a cable --for 2h").out
    assert held.endswith("is held: waits for a cable\n")
    row = operator.types("queue list").out.splitlines()[1]
    assert "high" in row
    assert re.search("held: waits for a cable, by lab, for (2h|1h59m)$", row)
    assert "1 in the queue of left" in operator.types("queue release smoke.efi").out
    assert operator.types("queue cancel smoke.efi").out.endswith("is cancelled\n")
    assert operator.types("queue list").out == "nothing waits\n"
    told = operator.types(f"explain {run}").out
    assert "It was cancelled" in told
    assert "machine" not in told
    assert operator.types(f"queue cancel {run}").out.endswith("is cancelled\n")  # as is said twice to be sure


def test_a_page_of_a_queue_says_what_comes_after_it(operator: Operator) -> None:
    for _ in range(3):
        operator.queues("smoke")
    page = operator.types("queue list --group left -n 2").out
    assert page.endswith("and 1 more: --first 2\n")
    assert len(operator.types("queue list --first 2").lines) == 2
    assert operator.types("queue list --first 7").out == "nothing waits after the first 7: there are 3\n"


def test_several_runs_are_cancelled_at_once_or_none(operator: Operator) -> None:
    runs = [operator.queues("smoke") for _ in range(2)]
    assert "no run 'nope'" in operator.types(f"queue cancel {runs[0]} nope", code=1).err
    assert len(operator.types("queue list").lines) == 3
    said = operator.types(f"queue cancel {' '.join(runs)}").out
    assert said == f"dispatch: {short_id(runs[0])}, {short_id(runs[1])} are cancelled\n"
    assert operator.types("queue list").out == "nothing waits\n"


def test_how_often_a_run_is_queued_again_is_changed(operator: Operator) -> None:
    run = operator.queues("smoke", "--requeue", "3")
    assert operator.types(f"queue requeue {run} 1").out.endswith("is queued again once in all\n")
    assert operator.types("queue list").lines[1][-2:] == ["again", "once"]
    assert operator.types(f"queue requeue {run} 0").out.endswith("is not queued again\n")
    assert "again" not in operator.types("queue list").out


def test_a_run_that_waits_is_changed_and_set_back(operator: Operator) -> None:
    run = operator.queues("smoke")
    said = operator.types(f"queue edit {run} --name b.efi --requires bench=left --limit boot=90s --priority low").out
    assert said == (
        f"dispatch: b.efi ({short_id(run)}) differs from its template smoke, which has: "
        'name "smoke.efi", requires [], priority 2, limits.boot none\n'
    )
    made = operator.types(f"queue edit {run} --reset all --json").json
    assert (made["name"], made["differs"], made["template"]) == ("smoke.efi", {}, "smoke")
    assert operator.types(f"queue edit {run} --name smoke.efi").out.endswith("is as its template smoke has it\n")
    for words, told in (
        ("--requires gpu", "no machine can run it so; the nearest is"),
        ("--set size=3", "payload: expected none, as the payload of the kind boot stays as it is"),
        ("--limit boot", "--limit: expected NAME=DURATION, got 'boot'"),
        ("--limit boot=-1s", "expected a duration such as 30s"),
        ("", "expected something to change"),
    ):
        code = 1 if "--set" in words or "gpu" in words else 2
        assert told in operator.types(f"queue edit {run} {words}", code=code).err


def test_a_run_is_queued_without_a_template(operator: Operator) -> None:
    where = f"--set media=efi --set location=folder:w/smoke.efi --set size={SIZE}"
    said = operator.types(f"queue add boot by-hand --group left {where} --label nightly --limit boot=5m").out
    assert re.fullmatch(r"dispatch: by-hand \(\w+\.\d+\) is 1 in the queue of left\n", said)
    run = operator.types("queue list --json").json["runs"][0]
    assert (run["name"], run["template"]) == ("by-hand", "")
    shown = operator.types(f"runs show {run['id']} --json").json["run"]
    assert (shown["workload"]["labels"], shown["limits"]["boot"]) == (["nightly"], 300.0)
    refused = operator.types("queue add boot x --group left --set media=efi", code=1).err
    assert "expected media, location and size" in refused


def test_a_run_of_a_kind_without_parts_is_not_run_again_in_part(operator: Operator) -> None:
    run = operator.queues("smoke")
    refused = operator.types(f"queue again {run} --failed", code=1).err
    assert "failed: expected a run whose failed part can be run alone, got one of boot" in refused


def test_a_run_that_waits_says_why(operator: Operator) -> None:
    run = operator.queues("smoke")
    operator.types(f"queue hold {run} its cable is missing")
    shown = operator.types(f"runs show {run}").out
    assert re.search(
        r"waits +It waits: it is held by lab: its cable is missing; group left is paused .* \(place 1\)", shown
    )
    rows = operator.types(f"explain {run}").out
    assert re.search(r"rpi-01 +yes +only what is said above", rows)
    assert main(["runs", "console", run]) == 0
    assert operator.capture.readouterr() == ("\n", "dispatch: its machine has written nothing\n")


def test_a_machine_is_held_and_returned(operator: Operator) -> None:
    heads, *rows = operator.types("machines list").lines
    assert heads == ["MACHINE", "STATE", "FOR", "GROUPS", "WHY"]
    assert [row[0] for row in rows] == ["checked-1", "epyc-1", "rpi-01", "rpi-02"]
    assert all(row[1] != "unknown" or row[-1] == "work" for row in rows)  # it is started when there is work
    assert (
        operator.types("machines hold rpi-02 a new power supply").out
        == "dispatch: rpi-02 is held: a new power supply\n"
    )
    assert "a new power supply, by lab" in operator.types("machines list").out
    shown = dict(line.split(maxsplit=1) for line in operator.types("machines show rpi-02").out.splitlines())
    assert (shown["state"], shown["labels"], shown["groups"]) == ("held", "driver=sim, bench=left", "left, lab")
    assert "rpi-02" in operator.types("status").out
    again = operator.types("machines hold rpi-02 a new cable --for 2h").out
    assert (
        again == "dispatch: rpi-02 is held: a new cable; until now it was held: a new power supply, by lab, for ever\n"
    )
    again = operator.types("machines hold rpi-02 a new board").out
    assert re.fullmatch(r"dispatch: rpi-02 is held: a new board; until now .* by lab, for (2h|1h59m)\n", again)
    assert operator.types("machines return rpi-02").out.startswith("dispatch: rpi-02 is back: ")


def test_groups_are_shown_paused_and_resumed(operator: Operator) -> None:
    operator.queues("smoke")
    said = operator.types("groups list").out
    assert "paused: a test, by lab" in said
    assert operator.types("groups list --json").json[0]["queued"] == 1
    assert operator.types("groups resume left").out == "dispatch: left goes on: 1 queued\n"
    until(lambda: operator.types("queue list").out == "nothing waits\n")
    assert operator.types("groups pause left for the night --for 8h").out.startswith(
        "dispatch: left is paused: for the"
    )


def test_a_run_is_shown_from_its_queue_to_its_cases(operator: Operator) -> None:
    run = operator.queues("memory")
    assert "unassigned" in operator.types(f"runs show {run}").out
    operator.types("groups resume left")
    until(lambda: operator.types(f"runs show {run} --json").json["run"]["outcome"])
    shown = operator.types(f"runs show {run}").out
    assert "failed" in shown
    assert "expected 4 memory channels, found 3" in shown
    assert operator.types("runs list").out == "nothing is under way\n"


def test_what_is_under_way_is_listed_and_cancelled(operator: Operator) -> None:
    operator.types("groups resume left")
    run = operator.queues("hang")
    until(lambda: "booting" in operator.types("runs list").out)
    assert "hang.efi" in operator.types("status").out
    assert "goes on, and its further attempts are held: look" in operator.types(f"queue hold {run} look").out
    operator.types(f"queue release {run}")
    assert "hang.efi" in operator.types("machines list").out
    operator.types(f"queue cancel {run}")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (
            "machines show rpi-2",
            "no machine 'rpi-2': did you mean rpi-02 or rpi-01?; `dispatch machines list` shows all",
        ),
        ("machines hold x no", "no machine 'x'; `dispatch machines list` shows all"),
        ("groups pause lefd no", "no group 'lefd': did you mean left?; `dispatch groups list` shows all"),
        ("templates queue smok", "no template 'smok': did you mean smoke?; `dispatch templates list` shows all"),
        (
            "queue top smoke.iso",
            "no run 'smoke.iso'; `dispatch queue list` shows what waits, `dispatch history` what has ended",
        ),
    ],
)
def test_a_wrong_name_is_told_with_those_that_are_like_it(operator: Operator, line: str, why: str) -> None:
    assert operator.types(line, code=1).err == f"dispatch: {why}\n"


def test_a_run_that_is_over_at_once_is_an_error(operator: Operator) -> None:
    said = operator.types("templates queue wrongsize", code=1).err
    assert re.search(r"wrongsize\.efi \(.+\) is over, with an error: .+: expected 11 bytes, there are 10$", said)


def test_an_address_below_that_of_the_lab(operator: Operator) -> None:
    said = operator.types(f"status --lab {operator.lab.url}/x", code=3).err
    assert said == f"dispatch: expected the API of a lab, got {operator.lab.url}/x: it is at {operator.lab.url}\n"


@pytest.mark.parametrize("line", ["status", "machines list"])
def test_what_answers_is_no_lab(operator: Operator, line: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(b'{"a": "b"}')

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name is the base class's
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        said = operator.types(f"{line} --lab http://127.0.0.1:{other.server_port}", code=3).err
        other.shutdown()
        thread.join()
    assert "no lab answers at" in said


def test_options_may_stand_before_a_command_and_within_it(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(operator.lab.token)
    given = f"--lab={operator.lab.url} --token-file {tmp_path / 'token'}"
    with monkeypatch.context() as elsewhere:
        elsewhere.delenv("DISPATCH_LAB")
        for line in (f"{given} queue list", f"queue {given} list", f"queue list {given}"):
            assert operator.types(line).out == "nothing waits\n"
        assert operator.types(f"{given} --json queue list").json["total"] == 0


@pytest.mark.parametrize("line", ["queue help move", "help queue move", "queue move --help", "--lab x help queue move"])
def test_help_is_had_by_several_lines(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: dispatch queue move [-h] [--before RUN]")


def test_a_name_that_may_mean_several_runs(operator: Operator) -> None:
    runs = [operator.queues("smoke") for _ in range(2)]
    said = operator.types("queue top smoke.efi", code=1).err
    assert said.startswith("dispatch: 'smoke.efi' may mean 2 runs: ")
    assert all(f"{short_id(run)} (smoke.efi, unassigned)" in said for run in runs)
    near = operator.types("queue top smoke.eif", code=1).err
    assert "did you mean smoke.efi" in near


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("queue", "the following arguments are required: COMMAND; see `dispatch queue --help`"),
        ("queue hold a", "the following arguments are required: REASON; see `dispatch queue hold --help`"),
        ("machines hold rpi-01 x --for soon", "--for: expected a duration such as 30m, 8h or 7d, got 'soon'"),
        ("queue move a", "expected one of --before, --after, --up, --down and --bottom, got none"),
        (
            "queue move a --up --down",
            "expected one of --before, --after, --up, --down and --bottom, got --up and --down",
        ),
        ("machines approve a --as a%b", "--as: expected at most 63 letters, digits and the signs . _ -, got 'a%b'"),
        ("groups pause left " + "x" * 3000, "reason: expected at most 1000 characters, got 3000"),
        (
            "status --lab http://[::1:80",
            "--lab: expected a lab's address such as https://lab.example:8080, got 'http://[::1:80'",
        ),
        ("--lab", "expected a command after --lab, got none; see `dispatch --help`"),
        ("--watch groups list", "unrecognized arguments: --watch; see `dispatch groups --help`"),
        (
            "machines hold --machine rpi-01 x",
            (
                "unrecognized arguments: --machine: MACHINE has no option before it: `dispatch machines hold MACHINE"
                " REASON`; see `dispatch machines --help`"
            ),
        ),
        (
            "queue pause x --fro 2h",
            "unrecognized arguments: --fro 2h: did you mean --for? See `dispatch queue --help`",
        ),
        (
            "queue hold a --reasn x",
            "unrecognized arguments: --reasn: did you mean --reason? See `dispatch queue --help`",
        ),
        ("queue hold a --reason", "the following arguments are required: REASON; see `dispatch queue hold --help`"),
        ("macines list", "no command 'macines': did you mean machines? See `dispatch --help`"),
        ("status -x:y", "unrecognized arguments: -x:y; see `dispatch status --help`"),
        ("history -n 0", "argument -n/--most: expected a number from 1 to 200, got '0'; see `dispatch history --help`"),
        (
            "history -n 201",
            "argument -n/--most: expected a number from 1 to 200, got '201'; see `dispatch history --help`",
        ),
        ("audit -n 0", "argument -n/--most: expected a number of at least 1, got '0'; see `dispatch audit --help`"),
        (
            "queue list -n 0",
            "argument -n/--most: expected a number from 1 to 1000, got '0'; see `dispatch queue list --help`",
        ),
        (
            "runs console a --attempt 0",
            "argument --attempt: expected a number of at least 1, got '0'; see `dispatch runs console --help`",
        ),
        ("templates queue smoke --set size", "--set: expected KEY=VALUE, got 'size'"),
        ("status --lab lab:80", "--lab: expected a lab's address such as https://lab.example:8080, got 'lab:80'"),
    ],
)
def test_wrong_usage(operator: Operator, line: str, why: str) -> None:
    assert operator.types(line, code=2).err == f"dispatch: {why}\n"


@pytest.mark.parametrize(
    "given",
    [
        "rpi-02 --reason a new cable",
        "rpi-02 --reason=a new cable",
        "rpi-02 --for 2h --reason a new cable",
        "rpi-02 a --reason new cable",
    ],
)
def test_a_reason_may_have_its_option_before_it(operator: Operator, given: str) -> None:
    assert operator.types(f"machines hold {given}").out.startswith("dispatch: rpi-02 is held: a new cable")
    operator.types("machines return rpi-02")


def test_a_reason_in_one_word_may_stand_before_what_is_held(operator: Operator) -> None:
    assert operator.types("groups pause --reason cables right").out == "dispatch: right is paused: cables\n"
    assert operator.types("queue pause --reason=cables").out == "dispatch: no run begins anywhere: cables\n"
    operator.types("queue resume")
    operator.types("groups resume right")
    run = operator.queues("smoke")
    assert operator.types(f"queue cancel --run {run}").out == f"dispatch: {short_id(run)} is cancelled\n"


def test_what_a_request_cannot_ask_for_is_wrong_usage(operator: Operator) -> None:
    run = operator.queues("smoke")
    assert "expected the address of an issue" in operator.types(f"runs link {run} foo", code=2).err
    assert main(["groups", "pause", "left", " "]) == 2
    assert "expected some words for other people" in operator.capture.readouterr().err
    assert "--requeue: expected a number from 0" in operator.types("templates queue smoke --requeue -1", code=2).err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full, as Linux has it")
def test_a_full_disk_is_told_in_one_line(operator: Operator) -> None:
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "pytest_dispatch.cli.main", "machines", "list"]
        ran = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    assert (ran.returncode, ran.stderr) == (
        1,
        "dispatch: what it says cannot be written: No space left on device\n",
    )


def test_no_lab_and_nobody_who_is_signed_in(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    said = operator.types("status --lab http://127.0.0.1:9", code=3).err
    assert said.startswith("dispatch: the lab at http://127.0.0.1:9 cannot be reached: ")
    assert said.endswith("; start one with `dispatch serve`, or name another with --lab or DISPATCH_LAB\n")
    monkeypatch.setenv("DISPATCH_TOKEN", "another")
    said = operator.types("status", code=3).err
    assert said.startswith(
        f"dispatch: not signed in at {operator.lab.url} with the token from DISPATCH_TOKEN: expected"
    )
    monkeypatch.delenv("DISPATCH_TOKEN")
    said = operator.types("status --lab http://lab.example:8081", code=3).err
    assert said == (
        "dispatch: not signed in at http://lab.example:8081: expected a token for this lab, got none; set"
        " DISPATCH_TOKEN, or run dispatch login http://lab.example:8081\n"
    )
    monkeypatch.setenv("DISPATCH_TOKEN", operator.lab.token)
    said = operator.types(f"status --lab {operator.lab.boot_url.removesuffix('/dispatch')}", code=3).err
    assert "where machines boot from and report to; its API is at" in said


def test_who_may_not_do_it_is_told_what_it_takes(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"reader-{time.monotonic_ns()}"
    operator.types(f"users add {name} --no-password")
    secret = operator.types(f"tokens create x --user {name} --json").json["secret"]
    with monkeypatch.context() as other:
        other.setenv("DISPATCH_TOKEN", secret)
        assert operator.types("machines hold rpi-01 x", code=1).err == (
            f"dispatch: not allowed: expected the role operator here, got {name}, reader\n"
        )
        assert "left" in operator.types("groups list").out


HEAVY = (
    "sqlalchemy",
    "aiohttp",
    "alembic",
    "pydantic",
    "pytest",
    "pytest_dispatch.lab",
    "pytest_dispatch.store",
)


def test_a_command_loads_no_part_of_a_lab(operator: Operator) -> None:
    code = (
        "import sys; from pytest_dispatch.cli.main import main; main(['queue', 'list']);"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert ran.stdout.splitlines()[-1] == "[]"


def test_who_reads_the_first_line_alone_is_no_error(operator: Operator) -> None:
    command = f"set -o pipefail; {sys.executable} -m pytest_dispatch.cli.main machines list | true"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (ran.returncode, ran.stderr) == (0, "")


def test_help_fits_a_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    pages = [["--help"]]
    for name, command in COMMANDS.items():
        if name != "serve":  # which has an option for all that pytest's own lab has
            pages.append([name, "--help"])
        if isinstance(noun := command.load(), Noun):
            pages += [[name, verb.name, "--help"] for verb in noun.verbs if verb.name]
    for words in pages:
        with pytest.raises(SystemExit) if words[0] not in ("--help", "config") else nullcontext():
            main(words)
        shown = capsys.readouterr().out.splitlines()
        assert (words, len(shown) <= 24, max(map(len, shown)) <= 80) == (words, True, True), "\n".join(shown)


def ended(operator: Operator, template: str) -> str:
    """A run that has ended, in a group that is paused again."""
    run = operator.queues(template)
    operator.types("groups resume left")
    until(lambda: operator.types(f"history run:{run} --json").json["runs"])
    operator.types("groups pause left a test")
    return run


def test_what_has_ended_is_found_judged_and_noted(operator: Operator) -> None:
    run = ended(operator, "memory")
    heads, *rows = operator.types(f"history outcome:failed run:{run}").lines
    assert heads == ["RUN", "WORKLOAD", "OUTCOME", "MACHINE", "ENDED", "TOOK", "WHY"]
    assert rows[0][:3] == [run, "memory.efi", "failed"]
    for search in ("outcome:failed -outcome:passed", "-outcome:passed outcome:failed", "-outcome:passed -panic -n5"):
        assert run in operator.types(f"history {search} run:{run}").out
        assert run not in operator.types(f"history -outcome:failed {search} run:{run} --json").out
    said = operator.types(f"runs override {run} passed the cable was loose").out
    assert said.endswith("counts as passed, in place of failed: the cable was loose\n")
    note = operator.types(f"runs note {run} ask Ada --json").json["id"]
    row = operator.types(f"history run:{run}").out.splitlines()[1]
    assert "passed (was failed)" in row
    assert row.endswith("the cable was loose, by lab; it reported failed: memory.efi; 1 note")
    operator.types(f"runs link {run} https://issues.example/1")
    missing = operator.types(f"runs link {run} https://issues.example/2 --remove", code=1).err
    assert missing.endswith(f"`dispatch runs show {short_id(run)}` lists its issues\n")
    shown = operator.types(f"runs show {run}").out
    assert re.search(r"issues +https://issues\.example/1\n", shown)
    assert re.search(r"state +passed \(was failed\)", shown)
    assert re.search(r"override +passed: the cable was loose \(lab, \d+s ago\)", shown)
    assert re.search(rf"note {note} +ask Ada \(lab, \d+s ago\)", shown)
    assert operator.types(f"runs note {run} --delete nope", code=1).err == (
        f"dispatch: no note 'nope' on {short_id(run)}; `dispatch runs show {short_id(run)}` lists its notes\n"
    )
    assert operator.types(f"runs note {run} --delete {note}").out == f"dispatch: note {note} is deleted\n"
    assert operator.types(f"runs override {run} original").out.endswith("counts as failed, as it ended\n")
    assert "expected why it counts as passed" in operator.types(f"runs override {run} passed", code=2).err


def test_a_run_that_has_ended_is_named_by_its_short_id_or_its_newest_by_its_name(operator: Operator) -> None:
    first, second = ended(operator, "memory"), ended(operator, "memory")
    for run in (first, second):
        assert operator.types(f"runs show {short_id(run)} --json").json["run"]["id"] == run
        assert [found["run"] for found in operator.types(f"history run:{short_id(run)} --json").json["runs"]] == [run]
        assert operator.types(f"runs note {short_id(run)} ask Ada --json").json["text"] == "ask Ada"
    assert operator.types("runs show memory.efi --json").json["run"]["id"] == second


def test_the_reason_of_an_override_is_found_while_it_stands(operator: Operator) -> None:
    run = ended(operator, "memory")
    operator.types(f"runs override {run} passed somebody tripped over the wire")
    asked = f"history tripped run:{run} --json"
    assert [found["run"] for found in operator.types(asked).json["runs"]] == [run]
    operator.types(f"runs override {run} original")
    assert operator.types(asked).json["runs"] == []


def test_a_console_is_shown_and_followed_and_a_run_is_a_junit_file(operator: Operator) -> None:
    run = ended(operator, "memory")
    console = operator.types(f"runs console {run}").out
    assert "memory.efi: memory: FAILED: expected 4 memory channels, found 3" in console
    assert operator.types(f"runs console {run} --follow").out == console
    suites = ElementTree.fromstring(operator.types(f"runs junit {run}").out)
    assert [case.get("name") for case in suites.iter("testcase")] != []
    series = operator.types("runs series memory.efi").out
    assert re.search(r"all +\d+ +0 +\d+ +0", series)


def test_the_numbers_of_the_charts_are_shown(operator: Operator) -> None:
    ended(operator, "memory")
    shown = operator.types("runs trends --over 1h").out
    assert re.search(r"FROM +PASSED +FAILED +ERROR +SKIPPED +HALF WAIT +9 OF 10 WAIT", shown)
    assert re.search(r"\d\d:\d\d:00 +\d+ +[1-9]\d* +\d+ +\d+ +\S+ +\S+", shown)
    assert re.search(r"MACHINE +BUSY +RUNS", shown)
    assert "whatever passed did so at the first attempt" in shown
    assert "choose from" in operator.types("runs trends --over 2h", code=2).err


def test_a_run_again_and_the_whole_lab_held(operator: Operator) -> None:
    run = ended(operator, "smoke")
    machine = operator.types(f"runs show {run} --json").json["run"]["attempts"][0]["placements"][0]["machine"]
    said = operator.types(f"queue again {run} --machine same --priority high").out
    assert said.endswith(f"is 1 in the queue of left, for {machine} alone\n")
    assert f"only {machine}" in operator.types("queue list").out
    changed = operator.types("queue priority smoke.efi low").out
    assert changed.endswith("has priority low, and is 1 in the queue of left\n")
    assert operator.types("queue pause a new switch").out == "dispatch: no run begins anywhere: a new switch\n"
    assert "no run begins anywhere: a new switch, by lab" in operator.types("status").out
    assert operator.types("queue resume").out == "dispatch: runs begin again\n"


def nouns() -> dict[str, Noun]:
    return {name: noun for name, command in COMMANDS.items() if isinstance(noun := command.load(), Noun)}


#: A line for each command, with the run that waits as RUN; the commands that make and remove users follow each other.
TYPED = """
status
queue list
queue move RUN --bottom
queue top RUN
queue hold RUN x
queue release RUN
queue priority RUN high
queue edit RUN --priority low
queue add boot by-hand --group left --set media=efi --set location=folder:w/smoke.efi --set size=10
queue again ENDED --machine same
queue pause x
queue resume
machines list
machines show rpi-01
machines hold rpi-01 x
machines return rpi-01
machines health checked-1
machines approve UNKNOWN --as rack-9 --label arch=x86_64
machines remove rack-9
groups list
groups pause right x
groups resume right
runs list
runs show ENDED
runs console ENDED
runs junit ENDED
runs series
runs trends --over 1h
runs override ENDED passed x
runs note ENDED x
runs link ENDED https://github.com/me/lab/issues/7
history outcome:passed
explain RUN
cycle start nightly
cycle list
cycle pause nightly x
cycle resume nightly
cycle now nightly
cycle show nightly
cycle logs nightly
cycle stop nightly
templates list
templates queue smoke
users list
users add NAME --no-password
users passwd NAME
users role NAME operator
users link NAME
tokens list
tokens create x --user NAME
tokens revoke TOKEN
users remove NAME
audit
queue requeue RUN 0
queue cancel RUN
"""


def asks_to_boot(lab: SharedLab) -> str:
    """A machine that nobody has named asks the lab; returns its address."""
    _, _, there = lab.boot_url.partition("//")
    where, _, path = there.partition("/")
    connection = HTTPConnection(where, source_address=("127.0.0.9", 0))
    connection.request("HEAD", f"/{path}", headers={"User-Agent": "UefiHttpBoot/1.0"})
    assert connection.getresponse().status == 200
    connection.close()
    return "127.0.0.9"


def test_json_has_the_shapes_of_the_api(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a long enough password\n"))
    names = {"ENDED": ended(operator, "memory"), "RUN": operator.queues("smoke"), "NAME": f"u{time.monotonic_ns()}"}
    names["UNKNOWN"] = asks_to_boot(operator.lab)
    left = {(noun.name, verb.name): verb for noun in nouns().values() for verb in noun.verbs}
    for line in TYPED.strip().splitlines():
        words = [names.get(word, word) for word in line.split()]
        whole = (words[0], words[1] if len(words) > 1 else "")
        verb = left.pop(whole if whole in left else (words[0], ""))
        out = operator.types(f"{' '.join(words)} --json").out
        value = msgspec.json.decode(out, type=verb.gives)
        assert msgspec.json.decode(msgspec.json.encode(value)) == json.loads(out), line  # nothing beside it
        if isinstance(value, MadeToken):
            names["TOKEN"] = value.token.id
    assert not left
