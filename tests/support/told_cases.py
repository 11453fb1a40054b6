"""Cases as pairs of name and outcome, which are short to write down."""

from __future__ import annotations

from textwrap import dedent

from pytest_dispatch.core.model import Case
from pytest_dispatch.results.cases import parse_tap


def told(cases: tuple[Case, ...]) -> list[tuple[str, str]]:
    """Each case's name and outcome."""
    return [(case.name, case.outcome.value) for case in cases]


def tap(text: str) -> list[tuple[str, str]]:
    """What is read in TAP that is indented as the code around it."""
    return told(parse_tap(dedent(text)))
