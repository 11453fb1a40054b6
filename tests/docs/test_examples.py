"""The examples do what they say."""

from __future__ import annotations

import importlib
import re
import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from boots import boots
from plugin_bench import WITHOUT, plays
from project import ROOT
from workflow_files import workflow_of

# Loaded once, here: `pytester` makes each run forget what it imported.
import pytest_dispatch.plugin.session  # noqa: F401
from pytest_dispatch import Attempt, Expect, Outcome, Report, Run
from pytest_dispatch.lab_program.lab_file.reading import read_lab_file
from pytest_dispatch.plugin import options
from pytest_dispatch.results.junit_writer import JunitCase, write_junit
from pytest_dispatch.testing.github import FakeGitHub

EXAMPLES = ROOT / "examples"
QUICK = ["--dispatch-machine=sim:2?pace=0.01", "--dispatch-bind=127.0.0.1:0", "--dispatch-no-mdns"]


# sev-certify


def test_an_image_passes_that_reaches_a_level_and_fails_that_reaches_none(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((EXAMPLES / "sev-certify" / "conftest.py").read_text("utf-8"))
    images = pytester.mkdir("images")
    for name, scenario in {"debian.efi": "pass", "ubuntu.efi": "multi-report"}.items():
        plays(images / name, scenario)
    result = pytester.runpytest("--dispatch-dir=images", *QUICK, *WITHOUT)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED images::debian.efi*the verdict hook says failed"])
    result.stdout.fnmatch_lines(["*certification levels*", "debian.efi: none", "ubuntu.efi: c1.2.3-4"])


CERTIFICATE = Report(title="ubuntu 25.04 SEV version 3.0-0", labels=("certificate", "proc-7xx3"))
REACHED = Report(title="ubuntu 25.04 SEV version 3.0-0", labels=("certificate",), milestone="c3.0.0-0")
OTHER = Report(title="Log of the host", milestone="c3.0.0-0")


@pytest.mark.parametrize(
    ("reports", "verdict"),
    [
        ((REACHED,), "passed"),
        ((OTHER, REACHED), "passed"),
        ((CERTIFICATE,), "failed"),
        ((REACHED, CERTIFICATE), "failed"),
        ((OTHER,), "failed"),
        ((), "failed"),
    ],
)
def test_every_certificate_needs_its_level(reports: tuple[Report, ...], verdict: str) -> None:
    conftest = runpy.run_path(str(EXAMPLES / "sev-certify" / "conftest.py"))
    assert conftest["pytest_dispatch_verdict"](run=certified(*reports)) == verdict


@pytest.mark.parametrize(("least", "verdict"), [(1, "passed"), (2, "failed")])
def test_a_level_above_may_be_asked_for(least: int, verdict: str) -> None:
    conftest = runpy.run_path(str(EXAMPLES / "sev-certify" / "conftest.py"))
    judge = conftest["pytest_dispatch_verdict"]
    judge.__globals__["LEAST"] = least
    assert judge(run=certified(replace(REACHED, milestone="c3.0.0-1"))) == verdict


def certified(*reports: Report) -> Run:
    return Run(
        id="s.0",
        session="s",
        key="AMDEPYC/sev-certify@devel::host-ubuntu-25.04.efi",
        position=0,
        workload=boots("host-ubuntu-25.04.efi"),
        limits={},
        expect=Expect.REPORT,
        attempts=(Attempt(number=1, reports=reports),),
    )


# The workflow for a lab


@pytest.fixture(scope="module")
def workflow() -> Any:
    return importlib.import_module("yaml").safe_load((EXAMPLES / "lab-runner.yml").read_text("utf-8"))


def step(workflow: Any, name: str) -> Any:
    return next(step for step in workflow["jobs"]["boot"]["steps"] if step.get("name") == name)


def test_the_workflow_uses_options_that_there_are(workflow: Any) -> None:
    command = step(workflow, "Boot the workloads")["run"]
    used = set(re.findall(r"--dispatch-[a-z-]+", command))
    assert {"--dispatch-repo", "--dispatch-tag", "--dispatch-junit"} <= used
    assert used <= {option.name for option in options.OPTIONS}


def test_the_workflow_has_the_permissions_that_a_session_needs(workflow: Any) -> None:
    assert workflow["permissions"] == {"contents": "read", "issues": "write"}
    assert set(workflow["jobs"]) == {"boot"}
    assert "self-hosted" in workflow["jobs"]["boot"]["runs-on"]


def test_the_workflow_uploads_what_the_session_wrote(workflow: Any) -> None:
    command = step(workflow, "Boot the workloads")["run"].split()
    files = [command[command.index(option) + 1] for option in ("--dispatch-junit", "--junitxml")]
    upload = workflow["jobs"]["boot"]["steps"][-1]
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["if"] == "always()"
    assert {str(Path(file).parent) for file in files} == {upload["with"]["path"]}


def test_the_workflow_writes_a_summary(
    workflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    cases = [
        JunitCase(group="me/lab@v1::a.efi", name="a.efi", outcome=Outcome.PASSED, seconds=61.4),
        JunitCase(group="me/lab@v1::b.efi", name="fans", outcome=Outcome.FAILED, seconds=1.0, text="fan 2 stands"),
        JunitCase(group="me/lab@v1::c.efi", name="c.efi", outcome=Outcome.ERROR, seconds=2.0, text="no machine"),
    ]
    write_junit(pytester.path / "reports" / "cases.xml", cases)
    summary = step(workflow, "Summary")
    assert summary["shell"] == ".venv/bin/python {0}"
    script = pytester.makepyfile(summary=summary["run"])
    pytester.run(sys.executable, script).stdout.no_fnmatch_line("*")
    assert (tmp_path / "summary.md").read_text("utf-8").splitlines() == [
        "| workload | case | outcome | seconds |",
        "| --- | --- | --- | --- |",
        "| me/lab@v1::a.efi | a.efi | passed | 61 |",
        "| me/lab@v1::b.efi | fans | ❌ failed | 1 |",
        "| me/lab@v1::c.efi | c.efi | ⚠️ error of the lab | 2 |",
    ]


# Workflows on self-hosted runners


@pytest.fixture
def runners() -> Iterator[FakeGitHub]:
    """A GitHub with the workflow of the example, and two runners."""
    with FakeGitHub() as fake:
        fake.add_repo("my-org/firmware")
        text = (EXAMPLES / "actions" / "boards.yml").read_text("utf-8")
        fake.actions.add_workflow("my-org/firmware", workflow_of(text, "boards.yml"))
        for name in ("rpi-01", "rpi-02"):
            fake.actions.add_runner("my-org", name, ("rpi",))
        yield fake


def test_the_templates_run_the_workflow_on_the_runners(
    pytester: pytest.Pytester, runners: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_API_URL", runners.url)
    monkeypatch.setenv("GITHUB_TOKEN", runners.token)
    for name in ("templates.yaml", "test_boards.py"):
        pytester.path.joinpath(name).write_text((EXAMPLES / "actions" / name).read_text("utf-8"))
    result = pytester.runpytest(
        "--dispatch-actions=templates.yaml", "test_boards.py", "boards", "--dispatch-lab=thread", *WITHOUT
    )
    result.assert_outcomes(passed=4)
    runs = runners.actions.runs("my-org/firmware")
    assert sorted(run.inputs["image"] for run in runs) == ["debian", "debian", "debian", "fedora"]
    assert all(run.inputs["dispatch"] and run.inputs["dispatch"] in run.title for run in runs)


def test_dispatch_serve_takes_the_groups_of_the_templates() -> None:
    found = read_lab_file(EXAMPLES / "actions" / "templates.yaml", {})
    assert [(each.group, each.template.id) for each in found.templates] == [("boards", "debian"), ("boards", "fedora")]
