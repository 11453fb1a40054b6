"""docs/cycles.md, whose first example is typed line by line by somebody who has nothing yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_examples import ROOT, blocks
from typists import Typist, follow, newcomer

TYPED = [block for block in blocks(ROOT / "docs" / "cycles.md") if block.directive == "service"]


@pytest.fixture
def somebody(tmp_path: Path) -> Iterator[Typist]:
    with newcomer(tmp_path) as typist:
        yield typist


@pytest.mark.draw(1, of="pages that are typed")
def test_a_newcomer_gets_a_cycle_by_what_the_page_says(somebody: Typist) -> None:
    assert len(TYPED) == 3
    for block in TYPED:
        follow(somebody, block)
    assert "1 passed" in somebody.type("dispatch cycle logs smoke 1")
