"""What a `FakeTestflinger` says of a job that is submitted: its schema, and who may have what."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

from pytest_dispatch.testing.testflinger_access import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_dispatch.testing.testflinger_access import FakeClient
    from pytest_dispatch.testing.testflinger_state import FakeFarm

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("job_queue", "name", "job_id", "parent_job_id", "job_status_webhook"), str),
    **dict.fromkeys(("global_timeout", "output_timeout", "allocation_timeout", "job_priority"), int),
    **dict.fromkeys(("tags", "exclude_agents"), list),
    **dict.fromkeys(("provision_data", "reserve_data"), (dict, type(None))),
    **dict.fromkeys(("firmware_update_data", "test_data", "allocate_data"), dict),
    "debug": bool,
}
_SSH_KEY = re.compile(r"(?:lp|gh):\S+")
#: Keys of `provision_data` by which its variants are known.
_PROVISION = {
    *("distro", "kernel", "user_data", "disks", "ephemeral", "url", "jobs", "skip", "use_attachment", "attachments"),
    *(
        "create_user",
        "boot_check_url",
        "media",
        "provision_plan",
        "preset",
        "robot_tasks",
        "token_file",
        "redeploy_cfg",
    ),
}
_WITHOUT_ACCOUNT = 21600.0  # seconds of a reservation that anybody may have


def checked(data: Any, farm: FakeFarm, client: FakeClient) -> dict[str, Any]:
    """Return a job; refuse one that the server does not take, with its words."""
    if not isinstance(data, dict):
        raise _invalid({"_schema": ["Invalid input type."]})
    wrong = {key: ["Unknown field."] for key in data if key not in _TYPES}
    wrong |= {key: ["Not a valid value."] for key, value in data.items() if not _fits(key, value)}
    if not data.get("job_queue"):
        wrong["job_queue"] = ["Missing data for required field."]
    if wrong:
        raise _invalid(wrong)
    _check_parts(data)
    _check_rights(data, farm, client)
    return data


def _fits(key: str, value: Any) -> bool:
    expected = _TYPES.get(key, object)
    return isinstance(value, expected) and not (expected is int and isinstance(value, bool))


def _check_parts(data: Mapping[str, Any]) -> None:
    provision = data.get("provision_data") or {}
    if provision and not provision.keys() & _PROVISION:
        raise _invalid({"provision_data": ["Invalid provision data schema."]})
    keys = (data.get("reserve_data") or {}).get("ssh_keys") or []
    if not all(isinstance(key, str) and _SSH_KEY.fullmatch(key) for key in keys):
        raise _invalid({"reserve_data": {"ssh_keys": ["String does not match expected pattern."]}})
    commands = (data.get("test_data") or {}).get("test_cmds", "")
    if not isinstance(commands, str):
        raise _invalid({"test_data": {"test_cmds": ["Not a valid string."]}})
    if "job_id" in data and not is_uuid(data["job_id"]):
        raise RefusedError(400, "Invalid job_id specified")


def _check_rights(data: Mapping[str, Any], farm: FakeFarm, client: FakeClient) -> None:
    queue, named = data["job_queue"], bool(client.id)
    timeout = (data.get("reserve_data") or {}).get("timeout") or 0
    if isinstance(timeout, int) and timeout > _WITHOUT_ACCOUNT and timeout > (client.max_reservation if named else 0):
        raise RefusedError(403 if named else 401, "Not enough permissions to reserve for this long")
    if data.get("job_priority") and data["job_priority"] > (client.max_priority if named else 0):
        raise RefusedError(403 if named else 401, f"Not enough permissions to push to {queue} with this priority")
    serving = [agent for agent in farm.agents.values() if queue in agent.queues]
    if any(agent.restricted_to and client.id not in agent.restricted_to for agent in serving):
        raise RefusedError(403 if named else 401, f"Not enough permissions to push to the restricted queue {queue}")
    excluded = data.get("exclude_agents") or []
    if excluded and all(agent.name in excluded for agent in serving):
        raise RefusedError(422, "All agents of the queue are excluded")


def is_uuid(text: str) -> bool:
    """Return whether a text is a UUID."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _invalid(detail: object) -> RefusedError:
    return RefusedError(422, "Validation error", {"json": detail})
