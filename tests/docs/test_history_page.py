"""docs/history.md says what history does: its searches are understood, and its numbers are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from project import ROOT

from pytest_dispatch.core.ended_runs import LONGEST_NOTE, MOST_NOTES
from pytest_dispatch.core.history_search import PREFIXED, Field, SearchError, read_search
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.lab.history import LOOKED_AT
from pytest_dispatch.lab_program.lab_file.reading import read_lab_file
from pytest_dispatch.server.api.handlers import LONGEST_WAIT
from pytest_dispatch.server.api.history_handlers import LONGEST_PAGE, PAGE

TEXT = (ROOT / "docs" / "history.md").read_text("utf-8")
NOW = 1_790_000_000.0


def rows() -> list[str]:
    """The searches in the table."""
    table = TEXT.partition("| term | finds runs |")[2].partition("\n\n")[0]
    cells = re.findall(r"(?m)^\| (`.*?`) \|", table)
    return [term for cell in cells for term in re.findall("`([^`]+)`", cell)]


def test_every_field_is_in_the_table() -> None:
    fields = {term.partition(":")[0] for term in rows() if ":" in term}
    assert fields == {*map(str, Field), "since", "before"}


@pytest.mark.parametrize("term", rows())
def test_each_term_of_the_table_is_understood(term: str) -> None:
    found = read_search(term, NOW)
    times = [found.since, found.before]
    assert len(found.conditions) + len(found.phrases) + sum(at is not None for at in times) == 1


def test_the_examples_are_understood() -> None:
    block = re.search(r"```text\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    for line in block[1].splitlines():
        assert len(read_search(line, NOW).conditions) > 1
    for term in re.findall(r"^- .*?`([^`]+)`\.?$", TEXT.partition("## A run")[0], re.MULTILINE):
        assert read_search(term, NOW) != read_search("", NOW)


def test_the_mistake_of_the_page_is_told_as_the_page_says() -> None:
    shown = re.search(r"its place: `(search, .*?)`", TEXT, re.DOTALL)
    with pytest.raises(SearchError) as caught:
        read_search("outcome:broken", NOW)
    assert shown is not None
    assert " ".join(shown[1].split()) == str(caught.value)


def test_its_numbers_and_words_are_those_of_the_code() -> None:
    for words in (
        f"`most` of them ({PAGE}, at most {LONGEST_PAGE})",
        f"at most {LONGEST_WAIT:g} seconds",
        f"at most {LONGEST_NOTE:,} characters and\n{MOST_NOTES} notes",
        f"the latest {LOOKED_AT:,} runs",
        "whose outcome is " + ", ".join(f"`{outcome}`" for outcome in list(Outcome)[:-1]),
    ):
        assert words in TEXT
    named = re.search(r"stands for any rest: of a word, and of (.*?)\.", TEXT)
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) == set(map(str, PREFIXED))


def test_its_retention_is_that_of_a_lab_file(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    (tmp_path / "lab.yaml").write_text(block[1])
    kept = read_lab_file(tmp_path / "lab.yaml", {}).content.retention
    days = {name: getattr(kept, name) / 86_400 for name in ("runs", "consoles", "texts", "audit")}
    assert days == {"runs": 365, "consoles": 30, "texts": 90, "audit": 730}
