"""What errors tell a person."""

from __future__ import annotations


def one_line(error: BaseException) -> str:
    """Return what an error tells: one line, in which no token of these tests stands."""
    text = str(error)
    assert "\n" not in text
    assert "fake-token" not in text
    return text
