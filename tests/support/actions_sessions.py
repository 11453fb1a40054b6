"""pytest sessions whose items are workflows of a fake GitHub."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from actions_bench import CORRELATED, REPO, TICKET, job
from plugin_bench import HERE, IN_THREAD, WITHOUT, Bench, clean

from pytest_dispatch.testing.actions import Annotation, Workflow
from pytest_dispatch.testing.github import FakeGitHub

PAYLOAD = "owner: me, repo: lab, correlation: ticket"
LAB = f"""
github: {{polling: {{interval: 1s}}}}
groups:
  - id: boards
    labels: [rpi]
    templates:
      - {{id: boot, kind: actions, labels: [smoke, arch=arm64, skip], payload: {{{PAYLOAD}, workflow: test.yml}}}}
      - {{id: flash, kind: actions, payload: {{{PAYLOAD}, workflow: flash.yml}}}}
  - id: others
    templates:
      - {{id: geth, owner: me, repo: lab, workflow_id: test.yml, inputs: {{ticket: given}}, labels: {{el: geth}}}}
"""
LOG = "\n".join([*(f"line {n}" for n in range(50)), "##[error]exit code 2", "Post job cleanup."])
#: A workflow of two jobs, of which the second fails.
FLASH = (
    job("build", seconds=0.2),
    job(
        "flash",
        seconds=0.2,
        conclusion="failure",
        steps=("Set up job", "Write the image"),
        log=LOG,
        annotations=(Annotation(message="the board did not answer"),),
    ),
)


def prepare(github: FakeGitHub, **workflows: Workflow) -> None:
    """Give a GitHub the workflows of `LAB`, or others by their files, and two runners."""
    made = {"test": Workflow(jobs=(job(seconds=0.2, log="booted in 3 s"),)), "flash": Workflow(jobs=FLASH), **workflows}
    for name, plan in made.items():
        said = {"path": f".github/workflows/{name}.yml", "inputs": TICKET, "run_name": CORRELATED}
        github.actions.add_workflow(REPO, Workflow(jobs=plan.jobs, **said))  # type: ignore[arg-type]
    for name in {"rpi-01", "rpi-02"} - {each.name for each in github.actions.runners("me")}:
        github.actions.add_runner("me", name, ("rpi",))


def environ(github: FakeGitHub, **more: str) -> Mapping[str, str]:
    return {**os.environ, "GITHUB_API_URL": github.url, "GITHUB_TOKEN": github.token, **more}


def actions(bench: Bench, github: FakeGitHub, *args: str, file: str = "lab.yaml", text: str = LAB) -> pytest.RunResult:
    """Run the templates of a file in a process of its own, with a lab in there."""
    return clean(bench.fork(*_command(bench, file, text), *args, environ=environ(github)))


def begin(bench: Bench, github: FakeGitHub, *args: str, text: str = LAB, token: str = "") -> Path:
    """Begin to run templates; returns the file of what is printed."""
    said, given = bench.path / "said.txt", environ(github, **({"GITHUB_TOKEN": token} if token else {}))
    bench.forks.start(bench.path, *_command(bench, "lab.yaml", text), *args, out=said, environ=given)
    return said


def _command(bench: Bench, file: str, text: str) -> Sequence[str]:
    Path(bench.path, file).write_text(text)
    bench.path.joinpath("pytest.ini").write_text("[pytest]\n")
    return (f"--dispatch-actions={file}", IN_THREAD, *HERE, *WITHOUT)
