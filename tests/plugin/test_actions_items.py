"""`--dispatch-actions FILE`: workflows of GitHub Actions as items, on self-hosted runners."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from actions_bench import REPO, job
from actions_sessions import FLASH, LAB, PAYLOAD, actions, begin, prepare
from plugin_bench import ENOUGH, Bench
from waiting import wait_until

from pytest_dispatch.testing.actions import NEVER, Workflow
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)


@pytest.fixture
def ready(github: FakeGitHub) -> FakeGitHub:
    prepare(github)
    return github


def test_each_template_is_an_item_of_its_group_and_each_job_a_subtest(bench: Bench, ready: FakeGitHub) -> None:
    result = actions(bench, ready, "-v", "--junitxml=all.xml")
    result.assert_outcomes(passed=2, failed=2)  # the run, and its job
    shown = result.stdout
    shown.fnmatch_lines(["dispatch: lab.yaml; 3 actions"])
    passed = ["boards::boot PASSED*", "boards::flash SUBPASSED*", "boards::flash FAILED*", "others::geth PASSED*"]
    shown.fnmatch_lines(passed)
    shown.fnmatch_lines(["machine rpi-0[12]@me: * (*)"])
    assert {each.inputs["ticket"] for each in ready.actions.runs(REPO)} >= {"given"}
    assert len(ready.actions.runs(REPO)) == 3


def test_a_failure_tells_the_step_and_the_end_of_the_log(bench: Bench, ready: FakeGitHub) -> None:
    result = actions(bench, ready, "-k", "flash")
    result.stdout.fnmatch_lines(
        [
            "*boards: flash [[]flash[]]*",
            "failure in step Write the image on rpi-0?",
            "the board did not answer",
            "line 49",
            "error: exit code 2",
            "*boards: flash _*",
            "job flash: failure in step Write the image on rpi-0?",
            "flash on rpi-0?@me*, attempt 1 of 1",
            "  as http://127.0.0.1:*/me/lab/actions/runs/*",
            "  | flash | failure | rpi-0? | * |",
            "      error: exit code 2",
        ]
    )
    assert "Post job cleanup" not in result.stdout.str()
    assert "line 25\n" not in result.stdout.str()


def test_the_junit_file_has_link_runner_and_seconds(bench: Bench, ready: FakeGitHub) -> None:
    actions(bench, ready, "--junitxml=all.xml", "boards::boot")
    [case] = ElementTree.parse(bench.path / "all.xml").iterfind(".//testcase[properties]")
    told = {each.get("name"): each.get("value") or "" for each in case.iterfind("properties/property")}
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/me/lab/actions/runs/\d+", told["dispatch_link"])
    assert told["dispatch_machine"] in ("rpi-01@me", "rpi-02@me")
    assert float(told["dispatch_seconds_sent"]) >= 0
    assert float(told["dispatch_seconds_running"]) >= 0


@pytest.mark.parametrize(
    ("chosen", "items"),
    [
        (["-m", "smoke"], ["boards::boot"]),
        (["-m", "arch_arm64 or el_geth", "--strict-markers"], ["boards::boot", "others::geth"]),
        (["-m", "dispatch_actions and not smoke"], ["boards::flash", "others::geth"]),
        (["-k", "geth"], ["others::geth"]),
        (["boards"], ["boards::boot", "boards::flash"]),
        (["others::geth", "boards::boot"], ["boards::boot", "others::geth"]),
        (["--dispatch-group=others"], ["others::geth"]),
    ],
    ids=["label", "pairs", "kind", "word", "group", "names", "option"],
)
def test_items_are_selected_by_names_groups_labels_and_marks(
    bench: Bench, ready: FakeGitHub, chosen: list[str], items: list[str]
) -> None:
    result = actions(bench, ready, "--collect-only", "-q", *chosen)
    assert [line for line in result.outlines if "::" in line] == items
    assert ready.actions.runs(REPO) == []


def test_a_list_is_a_group_called_as_the_file_unless_the_option_says_another(bench: Bench, ready: FakeGitHub) -> None:
    ours = f"[{{id: ours, kind: actions, payload: {{{PAYLOAD}, workflow: test.yml}}}},"
    text = f"{ours} {{id: theirs, owner: me, repo: lab, workflow_id: test.yml}}]"
    for more, group in ([], "my-boards"), (["--dispatch-group=rack"], "rack"):
        result = actions(bench, ready, "--collect-only", "-q", *more, file="my boards.yaml", text=text)
        assert [line for line in result.outlines if "::" in line] == [f"{group}::ours", f"{group}::theirs"]


def test_templates_of_other_kinds_are_left_out_and_named(bench: Bench, ready: FakeGitHub) -> None:
    other = "      - {id: image, kind: boot, payload: {media: efi, location: 'folder:kept/a.efi', size: 7}}\n"
    text = LAB.replace("  - id: others", f"{other}  - id: others") + "sources: {folders: {kept: .}}\n"
    result = actions(bench, ready, "--collect-only", text=text)
    result.stdout.fnmatch_lines(["dispatch: left out: image: expected the kind actions, got boot"])
    assert "image>" not in result.stdout.str()


def test_a_session_that_is_interrupted_is_resumed_and_sends_nothing_twice(bench: Bench, ready: FakeGitHub) -> None:
    prepare(ready, flash=Workflow(jobs=(job("long", seconds=3),)))
    bench.path.joinpath("conftest.py").write_text(ENOUGH)
    first = actions(bench, ready, "-v", "boards")
    assert first.ret == pytest.ExitCode.INTERRUPTED
    bench.path.joinpath("conftest.py").unlink()
    again = actions(bench, ready, "-v", "--dispatch-resume", "boards")
    again.assert_outcomes(passed=2)
    again.stdout.fnmatch_lines(["dispatch: lab.yaml; 3 actions; resumed"])
    assert "boot sending" not in again.stdout.str()  # its outcome is that of the first session
    assert len(ready.actions.runs(REPO)) == 2


def test_what_keeps_all_from_a_runner_is_told_unasked(bench: Bench, ready: FakeGitHub) -> None:
    """A wrong label looks like a runner that is busy, and the lab waits a day for that."""
    said = begin(bench, ready, "boards", text=LAB.replace("[rpi]", "[rpi5]"))
    wait_until(lambda: "⏳ boot: It waits: no runner of me/lab fits rpi5: the nearest is rpi-0" in said.read_text())
    bench.forks.end()


def test_a_wait_for_a_runner_ends_as_the_option_says(bench: Bench, ready: FakeGitHub) -> None:
    result = actions(bench, ready, "boards", "--dispatch-assign-timeout=1s", text=LAB.replace("[rpi]", "[rpi5]"))
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["no runner was there for it within 1s"])


def test_a_token_that_github_refuses_is_told_unasked(bench: Bench, ready: FakeGitHub) -> None:
    said = begin(bench, ready, "boards", token="ghp_wrong")
    wait_until(lambda: "401 Unauthorized: Bad credentials" in said.read_text())
    assert "ghp_wrong" not in said.read_text()
    bench.forks.end()


def test_a_verdict_hook_judges_a_workflow(bench: Bench, ready: FakeGitHub) -> None:
    bench.path.joinpath("conftest.py").write_text(
        """
def pytest_dispatch_verdict(run):
    bad = [case.name for case in run.attempt.reports[0].cases if case.outcome == "failed"]
    return "passed" if bad == ["flash"] else "failed"
"""
    )
    result = actions(bench, ready, "boards::flash", "boards::boot")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED boards::boot - the verdict hook says failed*"])


def test_a_failed_workflow_becomes_an_issue(bench: Bench, ready: FakeGitHub) -> None:
    result = actions(bench, ready, "--dispatch-issues=failed", f"--dispatch-issues-repo={REPO}", "boards")
    result.assert_outcomes(passed=1, failed=2)
    [issue] = ready.issues(REPO)
    assert issue.title.startswith("flash: failure: job flash: failure in step Write the image")
    assert "| flash | failure | rpi-0" in issue.body
    assert "    error: exit code 2" in issue.body


def test_the_end_of_a_session_cancels_at_github_what_nobody_waits_for(bench: Bench, ready: FakeGitHub) -> None:
    prepare(ready, flash=Workflow(jobs=(FLASH[1],)), test=Workflow(jobs=(job(seconds=NEVER),)))
    actions(bench, ready, "-x", "boards::flash", "others::geth").assert_outcomes(failed=2)
    wait_until(lambda: {each.conclusion for each in ready.actions.runs(REPO)} <= {"failure", "cancelled"})


def test_workers_of_xdist_run_the_items_of_all_groups(bench: Bench, ready: FakeGitHub) -> None:
    result = actions(bench, ready, "-n2", "-k", "boot or geth")
    result.assert_outcomes(passed=2)


PYTHON = """
import pytest


@pytest.mark.dispatch("flash")
def test_flash(dispatch_workload):
    assert dispatch_workload.outcome() == "failed"
    assert [(job.name, job.outcome) for job in dispatch_workload.cases] == [("build", "passed"), ("flash", "failed")]
    assert dispatch_workload.report().title.startswith("flash: failure")
    assert "error: exit code 2" in dispatch_workload.log("flash")
    assert "/me/lab/actions/runs/" in dispatch_workload.link
    assert dispatch_workload.machine.startswith("rpi-0")


@pytest.mark.dispatch("boot")
def test_boot(dispatch_workload, dispatch_lab):
    assert dispatch_workload.outcome() == "passed"
    assert dispatch_workload.log() == "booted in 3 s"
    assert dispatch_lab.workloads == ["boot", "flash", "geth"]
    assert {machine.name for machine in dispatch_lab.machines} >= {"rpi-01@me", "rpi-02@me"}


@pytest.mark.dispatch("boot")
def test_no_such_job(dispatch_workload):
    dispatch_workload.outcome()
    dispatch_workload.log("flash")
"""


def test_python_tests_see_jobs_outcome_and_logs(bench: Bench, ready: FakeGitHub) -> None:
    bench.path.joinpath("test_boards.py").write_text(PYTHON)
    result = actions(bench, ready, "test_boards.py")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*expected one of the jobs boot, got 'flash'*"])


@pytest.mark.parametrize(
    ("text", "args", "words"),
    [
        ("groups: [", [], "lab.yaml:1:10: expected YAML, got a mistake in it: *"),
        ("[]", [], "lab.yaml: expected templates of the kind actions, got none"),
        ("[{id: a, kind: action}]", [], "lab.yaml: expected templates of the kind actions, got a of the kind action"),
        (
            "[{id: a, kind: actions, payload: {owner: me}}]",
            [],
            "lab.yaml:1:34: 0.payload: the kind actions refuses it: a: payload: repo: expected the name of a *",
        ),
        (LAB, ["--dispatch-group=board"], "the lab has no group 'board': did you mean boards?"),
        (
            LAB,
            ["--dispatch-tag=v1"],
            "--dispatch-tag: *got it with the templates in 'lab.yaml', which has no releases*",
        ),
        (LAB, ["--dispatch-dir=w"], "--dispatch-dir and --dispatch-actions: expected one source of workloads, got *"),
        (LAB, ["boards::geth"], "not found: boards::geth (it has: boot, flash)"),
    ],
    ids=["yaml", "empty", "kind", "payload", "group", "tag", "two", "name"],
)
def test_what_cannot_be_used_is_said_in_one_line(
    bench: Bench, github: FakeGitHub, text: str, args: list[str], words: str
) -> None:
    result = actions(bench, github, *args, text=text)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{words}"])


def test_without_a_token_nothing_is_begun(bench: Bench, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github, "token", "")
    result = actions(bench, github)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --dispatch-actions: expected a GitHub token, got none; set one by *"])
