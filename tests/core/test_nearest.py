"""What somebody probably meant who named something that is not known."""

from __future__ import annotations

import pytest

from pytest_dispatch.core.nearest import first_unknown, meant


@pytest.mark.parametrize(
    ("name", "known", "told"),
    [
        ("rak", ["gpu", "rack"], "did you mean rack?"),
        ("rack-3", ["rack-1", "rack-2", "gpu"], "did you mean rack-2 or rack-1?"),
        ("storage", ["gpu", "rack"], "expected one of gpu, rack"),
        ("rack", [], "expected one of none"),
    ],
)
def test_names_that_are_alike_are_asked_about_else_all_are_told(name: str, known: list[str], told: str) -> None:
    assert meant(name, known) == told


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ([], ""),
        (["ref", "repo"], ""),
        (["ref", "repos"], "expected keys among repo, ref, got 'repos': did you mean repo?"),
        ([7], "expected keys among repo, ref, got '7'"),
        (["x" * 200], f"expected keys among repo, ref, got {'x' * 80!r}"),
    ],
)
def test_the_first_key_that_is_not_known_is_told(keys: list[object], told: str) -> None:
    assert first_unknown(keys, ["repo", "ref"]) == told
