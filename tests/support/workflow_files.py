"""Workflows of a fake GitHub made from workflow files, as far as the files of examples go."""

from __future__ import annotations

import re
from typing import Any

from ruamel.yaml import YAML

from pytest_dispatch.testing.actions import Input, Job, Workflow

_NAMED = re.compile(r"\$\{\{ fromJSON\(inputs\.([\w-]+)\) \}\}")


def workflow_of(text: str, file: str, seconds: float = 0.3) -> Workflow:
    """What a workflow file says; each job takes so many seconds, and succeeds."""
    said = YAML(typ="safe", pure=True).load(text)
    asked = said["on"]["workflow_dispatch"]["inputs"]
    inputs = {
        name: Input(required=each.get("required", False), default=each.get("default", ""))
        for name, each in asked.items()
    }
    jobs = tuple(_job(name, each, inputs, seconds) for name, each in said["jobs"].items())
    path = f".github/workflows/{file}"
    return Workflow(jobs=jobs, path=path, name=said["name"], inputs=inputs, run_name=said["run-name"])


def _job(name: str, said: dict[str, Any], inputs: dict[str, Input], seconds: float) -> Job:
    minutes = _NAMED.fullmatch(str(said["timeout-minutes"]))
    limit = float(inputs[minutes[1]].default if minutes else said["timeout-minutes"]) * 60
    steps = ("Set up job", *(step.get("name") or step["uses"] for step in said["steps"]))
    log = "\n".join(f"##[group]{step}" for step in steps)
    return Job(name=name, runs_on=(said["runs-on"],), seconds=seconds, timeout=limit, steps=steps, log=log)
