"""Draws the picture of docs/actions.md: a session of `pytest --dispatch-actions` on two runners of a fake GitHub.

`python docs/runners.py`. Times and links are those of the fake; what pytest shows is recorded as it is.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from picture import Child, played, write

from pytest_dispatch.testing.actions import Annotation, Input, Job, Workflow
from pytest_dispatch.testing.github import FakeGitHub

REPO = "my-org/firmware"
LOG = "\n".join(("writing debian.img", "reading it back", "##[error]block 4711 differs", "Post job cleanup."))
#: The workflows, each with its jobs.
WORKFLOWS = {
    "smoke": (Job(name="boot", runs_on=("rpi",), seconds=3),),
    "soak": (Job(name="boot", runs_on=("rpi",), seconds=6), Job(name="memory", runs_on=("rpi",), seconds=5)),
    "flash": (
        Job(
            name="flash",
            runs_on=("rpi",),
            seconds=3,
            conclusion="failure",
            steps=("Set up job", "Write the image", "Verify"),
            log=LOG,
            annotations=(Annotation(message="the image differs from what was written"),),
        ),
    ),
}
#: Templates of each group, with their workflows.
GROUPS = {
    "boards": {"debian": "smoke", "fedora": "smoke", "flash": "flash"},
    "nightly": {"soak": "soak", "debian-again": "smoke"},
}


def main() -> int:
    """Run the session and write its picture; returns 0 if it ended as it is meant to."""
    with tempfile.TemporaryDirectory(prefix="dispatch-picture-") as scratch, FakeGitHub() as github:
        github.add_repo(REPO)
        for name, jobs in WORKFLOWS.items():
            path, inputs = f".github/workflows/{name}.yml", {"dispatch": Input()}
            github.actions.add_workflow(REPO, Workflow(jobs=jobs, path=path, inputs=inputs))
        for name in ("rpi-01", "rpi-02"):
            github.actions.add_runner("my-org", name, ("rpi",))
        Path(scratch, "templates.yaml").write_text(templates(), "utf-8")
        os.chdir(scratch)
        child = Child(_command(), GITHUB_API_URL=github.url, GITHUB_TOKEN=github.token)
        best, _ = played(child)
        write("actions.svg", best, "Two runners work through five workflows of two groups")
        return int(child.code() != 1)  # one of them fails


def templates() -> str:
    """The file of templates."""
    lines = ["github: {polling: {interval: 1s}}", "groups:"]
    for group, members in GROUPS.items():
        lines += [f"  - id: {group}", "    labels: [rpi]", "    templates:"]
        for name, workflow in members.items():
            said = f"owner: my-org, repo: firmware, workflow: {workflow}.yml, correlation: dispatch"
            lines.append(f"      - {{id: {name}, kind: actions, payload: {{{said}}}}}")
    return "\n".join(lines) + "\n"


def _command() -> list[str]:
    apart = ["-c", os.devnull, "--rootdir=.", "--dispatch-db=journal.db", "-p", "no:cacheprovider"]
    shown = "pytest --dispatch-actions templates.yaml"
    pytest = [*apart, "--disable-plugin-autoload", "-p", "pytest_dispatch.plugin"]
    program = f"import sys, pytest; print('$ {shown}', flush=True); sys.exit(pytest.main(sys.argv[1:]))"
    return [sys.executable, "-c", program, "--dispatch-actions=templates.yaml", *pytest]


if __name__ == "__main__":
    sys.exit(main())
