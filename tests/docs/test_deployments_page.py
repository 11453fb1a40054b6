"""The page on deployments names a test for each of its rows, and those tests are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deployments.md").read_text("utf-8")


def rows(heading: str) -> list[str]:
    """The rows of a section's table, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][2:]


@pytest.mark.parametrize(
    ("heading", "least"),
    [
        ("Machines that are not tried", 3),
        ("How each end is judged", 16),
        ("When Testflinger does not answer, or refuses", 13),
        ("For those who come from testflinger_deploy_regularly", 18),
    ],
)
def test_each_row_names_tests_that_are_there(heading: str, least: int) -> None:
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)\(", file.read_text("utf-8"), re.MULTILINE)
    }
    found = rows(heading)
    assert len(found) >= least
    for row in found:
        named = re.findall(r"`(test_\w+)`", row.split("|")[-2])
        assert named, row
        assert set(named) <= there, row
