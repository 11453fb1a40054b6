"""docs/service.md, typed line by line by a stranger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_examples import ROOT, blocks
from typists import Typist, follow, newcomer

PAGE = ROOT / "docs" / "service.md"
TYPED = [block for block in blocks(PAGE) if block.directive == "service"]


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Typist]:
    with newcomer(tmp_path) as somebody:
        yield somebody


@pytest.mark.draw(1, of="pages that are typed")
def test_a_stranger_gets_a_shared_lab_by_what_the_page_says(stranger: Typist) -> None:
    for block in TYPED:
        follow(stranger, block)
    assert (stranger.home / "copy.db").stat().st_size > 0
    assert stranger.type("dispatch audit --action session.open").count("session.open") == 1
    assert "dispatch_runs_ended_total" in stranger.type(
        'curl -sf -H "Authorization: Bearer dsp_…" http://127.0.0.1:8081/metrics'
    )


def test_everything_that_the_page_says_of_dispatch_is_typed() -> None:
    typed = {block.where for block in TYPED}
    shown = [block for block in blocks(PAGE) if block.language == "console" and block.where not in typed]
    commands = [line for block in shown for line in block.text.splitlines() if line.startswith("$ dispatch ")]
    assert commands == ["$ dispatch login https://lab.example:8080"]  # whose token is asked for at a terminal
