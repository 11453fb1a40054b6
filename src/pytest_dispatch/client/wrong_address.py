"""What answers at an address where no API of a lab is: the port that machines boot from is the likely one."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from pytest_dispatch.server.probes import ALIVE, NAME

ASK = 5.0  # longest wait for an answer, in seconds


def boot_port_at(url: str) -> str:
    """Return what to say if machines boot from this address; empty if something else is there.

    Args:
        url: Where the API was expected, and is not.
    """
    parts = urlsplit(url)
    try:
        with httpx.Client(trust_env=False, timeout=ASK) as asking:
            said = asking.get(f"{parts.scheme}://{parts.netloc}{ALIVE}").json()
        if said["program"] != NAME:
            return ""
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return ""
    api = said.get("api", "")
    if api == f"{parts.scheme}://{parts.netloc}" != url:
        return f"expected the API of a lab, got {url}: it is at {api}"
    first = "name its API, the first address that `dispatch serve` says"
    there = f"its API is at {api}" if api and api != url else first
    return f"expected the API of a lab, got {url}, where machines boot from and report to; {there}"
