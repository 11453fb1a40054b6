"""What a lab does under attack: it serves others meanwhile."""

from __future__ import annotations

import pytest
from faults import fault
from labs import FIRMWARE, TOKEN, LabBench, Wire

HEAD = f"HEAD /dispatch HTTP/1.1\r\n{FIRMWARE}\r\n"
BEARER = f"Authorization: Bearer {TOKEN}\r\n"
UNCHANGED = "refused; the others are served as always"


def hostile(what: str, told: str, outcome: str = UNCHANGED) -> pytest.MarkDecorator:
    return fault("Hostile input", what, outcome=outcome, told=told)


async def serves_others(bench: LabBench, source: str = "127.0.0.99") -> None:
    assert (await bench.call("HEAD", source=source)).status == 200


async def closed(wire: Wire) -> bytes:
    """What came until the server closed the connection."""
    try:
        return await wire.rest()
    except ConnectionError:
        return b""
