"""Webhooks of a fake Testflinger: what happens to a job, told to the address that it names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_dispatch.testing.actions_hooks import Delivery, Hook, Hooks

if TYPE_CHECKING:
    from pytest_dispatch.testing.testflinger_state import FakeJob

EVENT = "job"


class JobHooks(Hooks):
    """Sends to each job's own address all events of the job so far, as the server does for an agent."""

    def tell(self, job: FakeJob) -> None:
        """Send what has happened to a job, if it says where."""
        if where := job.data.get("job_status_webhook"):
            told = {"agent_id": job.agent, "job_queue": job.queue, "job_status_webhook": where}
            self.offer(EVENT, {**told, "events": list(job.events)})

    def _request(self, hook: Hook, delivery: Delivery) -> tuple[str, str, dict[str, str], bytes]:
        told: dict[str, Any] = {key: value for key, value in delivery.payload.items() if key != "job_status_webhook"}
        signed = {"Authorization": f"Bearer {hook.secret}"} if hook.secret else {}
        headers = {"Content-Type": "application/json", "User-Agent": "python-requests/2.32.5", **signed}
        where = str(delivery.payload["job_status_webhook"])
        url = f"{hook.url}{urlsplit(where).path}" if hook.url else where
        return "PUT", url, headers, json.dumps(told).encode()
