"""What a `FakeGitHub` answers when it is to fail."""

from __future__ import annotations

import time

from aiohttp import web

from pytest_dispatch.testing.faults import Fault
from pytest_dispatch.testing.github_routes import DOCS, refusal

UNICORN = "<!DOCTYPE html><html><head><title>Unicorn! &middot; GitHub</title></head><body></body></html>"


def answer_of(fault: Fault) -> web.Response:
    """Return the answer to send instead of the usual one."""
    if fault.html:
        response = web.Response(status=fault.status, text=UNICORN, content_type="text/html")
    elif fault.data is not None:
        response = web.json_response(fault.data, status=fault.status)
    else:
        response = refusal(fault.status, fault.message)
    response.headers.update(fault.headers)
    return response


def too_quickly(call: str, times: int) -> Fault:
    """Return GitHub's refusal of issues and comments that are written too fast; it names no field of theirs."""
    error = {"resource": "Issue", "code": "custom", "field": "base", "message": "was submitted too quickly"}
    data = {"message": "Validation Failed", "documentation_url": DOCS, "errors": [error]}
    return Fault(call=call, status=422, data=data, times=times)


def rate_limit(call: str, secondary: bool, seconds: float | None, times: int) -> Fault:
    """Return a refusal because of a rate limit.

    See https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api.

    Args:
        call: Method and path of the affected requests, as in `Fault`.
        secondary: Whether it is a secondary limit (too fast) instead of the hourly one.
        seconds: Seconds until the limit ends; None for an hour, or unspecified for a secondary limit.
        times: Number of requests to refuse.
    """
    headers = {}
    if secondary:
        message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        if seconds is not None:
            headers["Retry-After"] = f"{seconds:.0f}"
    else:
        message = "API rate limit exceeded for user ID 1."
        reset = time.time() + (3600.0 if seconds is None else seconds)
        headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{reset:.0f}"}
    return Fault(call=call, status=403, message=message, headers=headers, times=times)
