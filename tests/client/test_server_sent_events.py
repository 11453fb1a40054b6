"""Streams of server-sent events, as the standard describes them."""

from __future__ import annotations

import pytest

from pytest_dispatch.client.server_sent_events import ServerSentEvent, read_events


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("data: a\n\n", [("message", "a", "")]),
        ("id: 3\nevent: change\ndata: {}\n\n", [("change", "{}", "3")]),
        ("data: a\ndata:b\n\n", [("message", "a\nb", "")]),
        ("data:  a\n\n", [("message", " a", "")]),
        (": still here\n\n", []),
        ("event: change\n\ndata: a\n\n", [("message", "a", "")]),
        ("id: 1\ndata: a\n\ndata: b\n\n", [("message", "a", "1"), ("message", "b", "1")]),
        ("id: 1\0\ndata: a\n\n", [("message", "a", "")]),
        ("retry: 5\nunknown\ndata: a\n\n", [("message", "a", "")]),
        ("data: its end is missing", []),
    ],
)
def test_events(text: str, events: list[tuple[str, str, str]]) -> None:
    assert list(read_events(text.split("\n"))) == [ServerSentEvent(*each) for each in events]
