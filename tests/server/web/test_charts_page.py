"""The page Charts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from past_runs import runs_through
from service_bench import PASSWORD, ServiceBench, service
from visitors import signed_in

from pytest_dispatch.core.trends import OVER
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.web.bars import HEIGHT, overlaid, stacked

pytestmark = pytest.mark.anyio

HOSTILE = "<img src=x onerror=alert(1)>.efi"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[ServiceBench]:
    async with service(tmp_path, pages=True) as running:
        await running.added("eve", Role.READER, password=PASSWORD)
        yield running


async def test_what_ended_is_drawn_and_told_in_a_table(lab: ServiceBench) -> None:
    await runs_through(lab.bench, "a.efi", HOSTILE)
    visitor = await signed_in(lab, "eve")
    for over in OVER:
        page = await visitor.see(f"/history/charts?over={over}")
        assert f"Outcomes of 2 runs over {over}" in [each.get("aria-label") for each in page.all("svg")]
        assert {"passed"} <= {each["class"] for each in page.all("path") if "class" in each}
        assert "passed 2 skipped 0 error 0 failed 0" in page.words
        assert "Use of machines" in page.words
        assert "127.0.0.2" in page.words
        assert "Whatever passed did so at the first attempt." in page.words
        assert not page.all("img")
    assert {each["aria-label"] for each in page.all("svg") if "aria-label" in each} >= {"Outcomes of 2 runs over 30d"}


async def test_the_latest_runs_have_a_small_chart_above_and_searches_have_none(lab: ServiceBench) -> None:
    await runs_through(lab.bench, "a.efi")
    visitor = await signed_in(lab, "eve")
    page = await visitor.see("/history")
    assert "Outcomes of the last 24h passed 1 skipped 0 error 0 failed 0" in page.words
    assert "Outcomes over 24h" in [each.get("aria-label") for each in page.all("svg")]
    assert not [each for each in (await visitor.see("/history?q=outcome:passed")).all("path") if "class" in each]


async def test_another_time_is_the_usual_one_and_nothing_is_said(lab: ServiceBench) -> None:
    page = await (await signed_in(lab, "eve")).see("/history/charts?over=<script>")
    assert [each["href"] for each in page.all("a") if each.get("aria-current") == "true"] == [
        "/history/charts?over=24h"
    ]
    assert "Nothing ended in this time." in page.words


def test_parts_stand_on_each_other_and_fit() -> None:
    chart = stacked([[("a", 3), ("b", 1)], [], [("a", 0), ("b", 2)]])
    assert (chart.width, chart.highest) == (30, 4)
    assert [(bar.kind, bar.x, bar.y, bar.height) for bar in chart.bars] == [
        ("a", 0, 25, 75),
        ("b", 0, 0, 25),
        ("b", 20, 50, 50),
    ]


def test_all_bars_of_a_kind_are_one_path() -> None:
    chart = stacked([[("a", 3), ("b", 1)], [("a", 0), ("b", 2)]])
    assert chart.paths == {"a": "M0 25h8.5v75h-8.5z", "b": "M0 0h8.5v25h-8.5zM10 50h8.5v50h-8.5z"}


def test_one_of_very_many_can_be_seen_and_nothing_leaves_the_chart() -> None:
    chart = stacked([[("a", 100_000), ("b", 1)]])
    assert all(bar.height >= 1 and bar.y >= 0 for bar in chart.bars)


def test_bars_before_each_other_are_of_one_scale() -> None:
    chart = overlaid([[("most", 8), ("half", 2)], [], [("most", 4), ("half", 4)]])
    assert [bar.height for bar in chart.bars] == [HEIGHT, HEIGHT / 4, HEIGHT / 2, HEIGHT / 2]
    assert all(bar.y + bar.height == HEIGHT for bar in chart.bars)
    assert not overlaid([[("most", 0.0), ("half", 0.0)]]).bars
