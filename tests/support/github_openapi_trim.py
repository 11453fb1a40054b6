"""Cuts the calls that this package makes, and the webhooks that it hears, out of GitHub's official OpenAPI description.

    npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
    python tests/support/github_openapi_trim.py package/generated/api.github.com.json

writes `github-openapi.json` with what can be reached from these calls and webhooks, and without examples.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPO = "/repos/{owner}/{repo}"
ACTIONS = f"{REPO}/actions"
RUN = f"{ACTIONS}/runs/{{run_id}}"
WORKFLOW = f"{ACTIONS}/workflows/{{workflow_id}}"
ORG = "/orgs/{org}/actions"
CALLS = {
    "/rate_limit": ["get"],
    REPO: ["get"],
    f"{REPO}/issues": ["get", "post"],
    f"{REPO}/issues/{{issue_number}}": ["get", "patch"],
    f"{REPO}/issues/{{issue_number}}/comments": ["get", "post"],
    f"{REPO}/milestones": ["get"],
    f"{REPO}/releases": ["get"],
    f"{REPO}/releases/assets/{{asset_id}}": ["get"],
    f"{REPO}/releases/latest": ["get"],
    f"{REPO}/releases/tags/{{tag}}": ["get"],
    f"{REPO}/releases/{{release_id}}/assets": ["get"],
    f"{ORG}/runners": ["get"],
    f"{ORG}/runners/{{runner_id}}": ["get", "delete"],
    f"{ORG}/runner-groups": ["get"],
    f"{ORG}/runner-groups/{{runner_group_id}}": ["get"],
    f"{ORG}/runner-groups/{{runner_group_id}}/runners": ["get"],
    f"{ACTIONS}/runners": ["get"],
    f"{ACTIONS}/runners/{{runner_id}}": ["get", "delete"],
    f"{ACTIONS}/workflows": ["get"],
    WORKFLOW: ["get"],
    f"{WORKFLOW}/runs": ["get"],
    f"{WORKFLOW}/dispatches": ["post"],
    f"{ACTIONS}/runs": ["get"],
    RUN: ["get", "delete"],
    f"{RUN}/attempts/{{attempt_number}}": ["get"],
    f"{RUN}/attempts/{{attempt_number}}/jobs": ["get"],
    f"{RUN}/jobs": ["get"],
    f"{RUN}/logs": ["get"],
    f"{RUN}/artifacts": ["get"],
    f"{RUN}/approvals": ["get"],
    f"{RUN}/pending_deployments": ["get", "post"],
    f"{RUN}/approve": ["post"],
    f"{RUN}/cancel": ["post"],
    f"{RUN}/force-cancel": ["post"],
    f"{RUN}/rerun": ["post"],
    f"{RUN}/rerun-failed-jobs": ["post"],
    f"{ACTIONS}/jobs/{{job_id}}": ["get"],
    f"{ACTIONS}/jobs/{{job_id}}/logs": ["get"],
    f"{ACTIONS}/artifacts/{{artifact_id}}": ["get"],
    f"{ACTIONS}/artifacts/{{artifact_id}}/{{archive_format}}": ["get"],
    f"{REPO}/check-runs/{{check_run_id}}/annotations": ["get"],
}
WEBHOOKS = {
    "workflow-job": ["queued", "waiting", "in-progress", "completed"],
    "workflow-run": ["requested", "in-progress", "completed"],
}
NOISE = {"example", "examples", "externalDocs", "x-github"}


def trim(whole: dict[str, Any]) -> dict[str, Any]:
    """The calls, and the components that they name, directly or not."""
    paths = {path: {verb: without_noise(whole["paths"][path][verb]) for verb in verbs} for path, verbs in CALLS.items()}
    components: dict[str, dict[str, Any]] = {}
    payloads = {f"#/components/schemas/webhook-{event}-{action}" for event in WEBHOOKS for action in WEBHOOKS[event]}
    todo = references(paths) | payloads
    while todo:
        _, _, kind, name = todo.pop().split("/")
        if name not in components.setdefault(kind, {}):
            components[kind][name] = without_noise(whole["components"][kind][name])
            todo |= references(components[kind][name])
    head = {key: whole[key] for key in ("openapi", "info", "servers")}
    return {**head, "paths": paths, "components": components}


def without_noise(node: Any, *, names: bool = False) -> Any:
    """The node without examples; the keys of `properties` are names, and all are kept."""
    if isinstance(node, dict):
        return {
            key: without_noise(value, names=key == "properties" and not names)
            for key, value in node.items()
            if names or key not in NOISE
        }
    return [without_noise(each) for each in node] if isinstance(node, list) else node


def references(node: Any) -> set[str]:
    """All `$ref` in the node."""
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


if __name__ == "__main__":
    trimmed = trim(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    text = json.dumps(trimmed, separators=(",", ":"), sort_keys=True)
    Path(__file__).with_name("github-openapi.json").write_text(f"{text}\n", encoding="utf-8")
