"""docs/cli.md, typed line by line by somebody who has a lab of simulated machines."""

from __future__ import annotations

import re
import runpy
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from docs_examples import ROOT, blocks
from typists import follow, newcomer
from waiting import PATIENCE

PAGE = ROOT / "docs" / "cli.md"
TYPED = [block for block in blocks(PAGE) if block.directive == "service"]


@pytest.mark.draw(1, of="pages that are typed")
def test_the_page_shows_what_is_seen(tmp_path: Path) -> None:
    with newcomer(tmp_path) as somebody:
        for block in TYPED:
            if block.argument == "ended":
                give_up = time.monotonic() + PATIENCE
                while "failed" not in somebody.type("dispatch history outcome:failed"):
                    assert time.monotonic() < give_up
                    time.sleep(0.1)
                block = replace(block, argument="")  # noqa: PLW2901 - the same block, once it is time for it
            follow(somebody, block)


@pytest.mark.parametrize("name", ["breaks", "returns"])
def test_the_pictures_of_the_afternoon_need_nothing_from_elsewhere(name: str) -> None:
    picture = (ROOT / "docs" / f"{name}.svg").read_text("utf-8")
    shown = " ".join("".join(ElementTree.fromstring(picture).itertext()).split())
    assert "rpi-02" in shown
    assert not re.search(r"href|url\(|<image|<style|<script", picture)


def test_the_table_of_commands_is_up_to_date() -> None:
    module = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert module["rendered"]("docs/cli.md") == PAGE.read_text("utf-8"), "run `make docs`"
