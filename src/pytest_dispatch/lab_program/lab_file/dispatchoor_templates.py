"""Reads templates of dispatchoor as they are: `owner`, `repo` and `workflow_id` stand beside the id there."""

from __future__ import annotations

from typing import Any

_PAYLOAD = {"owner": "owner", "repo": "repo", "workflow_id": "workflow", "ref": "ref", "inputs": "inputs"}


def as_template(given: Any) -> Any:
    """Return a template in the keys of a lab file, if it is one of dispatchoor; anything else as it is."""
    if not isinstance(given, dict) or "workflow_id" not in given or "kind" in given:
        return given
    payload = {key: given[name] for name, key in _PAYLOAD.items() if given.get(name) is not None}
    made = {key: value for key, value in given.items() if key not in _PAYLOAD}
    if isinstance(labels := made.get("labels"), dict):
        made["labels"] = [f"{key}={value}" if value not in ("", None) else str(key) for key, value in labels.items()]
    return {**made, "kind": "actions", "payload": payload}
