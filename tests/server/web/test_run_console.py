"""The console on the page of a run: which lines it shows, what is found in them, and it as a file."""

from __future__ import annotations

import pytest
from service_bench import ServiceBench
from visitors import SeenPage, signed_in

from pytest_dispatch.core.model import Run
from pytest_dispatch.server.web.run_console import MOST_FOUND, PAGE, Asked, part_of

pytestmark = pytest.mark.anyio

MACHINE = "127.0.0.2"
MANY = [f"line {number}" for number in range(1, 2 * PAGE + 101)]


def asked(**wanted: object) -> Asked:
    return Asked(run="r.0", attempt=1, **wanted)  # type: ignore[arg-type]


def test_the_last_lines_are_shown_with_their_numbers() -> None:
    part = part_of(MANY, asked())
    assert (part.first, part.last, part.total, part.is_whole) == (PAGE + 101, 2 * PAGE + 100, 2 * PAGE + 100, False)
    assert str(part.lines[0].text) == f"line {PAGE + 101}"


@pytest.mark.parametrize(("line", "first"), [(1, 1), (PAGE, 1), (PAGE + 1, PAGE + 1), (10**9, 2 * PAGE + 1)])
def test_a_line_is_shown_among_those_around_it(line: int, first: int) -> None:
    assert part_of(MANY, asked(line=line)).first == first


def test_a_search_finds_the_lines_of_the_whole_console() -> None:
    part = part_of(["a \x1b[31mRed\x1b[0m fan", "b", "reddish"], asked(find="RED"))
    assert [(line.number, str(line.text)) for line in part.lines] == [
        (1, 'a <span class="t-red">Red</span> fan'),
        (3, "reddish"),
    ]
    assert part_of(["a \x1b[31mre\x1b[0md"], asked(find="red")).found == 1, "across colours"
    part = part_of(MANY, asked(find="line"))
    assert (part.found, len(part.lines)) == (len(MANY), MOST_FOUND)
    assert not part_of(MANY, asked(find="nowhere")).lines


def test_a_line_has_an_address_that_can_be_sent_on() -> None:
    assert part_of(MANY[:3], asked()).link(2) == "#L2"
    assert part_of(MANY, asked()).link(700) == "/runs/r.0?attempt=1&line=700#L700"
    assert part_of(MANY[:3], asked(), follows=True).link(2) == "/runs/r.0?attempt=1&line=2#L2"


async def booted(lab: ServiceBench, *lines: str) -> Run:
    """A run whose machine has written these lines."""
    run = await lab.bench.booted()
    for line in lines:
        lab.bench.lab.console.shown(MACHINE, line)
    return run


def numbered(page: SeenPage) -> list[str]:
    return [each["data-no"] for each in page.all("a") if "data-no" in each]


async def test_a_console_under_way_is_followed_in_colour(lab: ServiceBench) -> None:
    run = await booted(lab, "one", "\x1b[1;32mtwo\x1b[0m")
    page = await (await signed_in(lab, "eve")).see(f"/runs/{run.id}")
    assert numbered(page) == ["1", "2"]
    assert '<span class="t-green t-bold">two</span>' in page.source
    assert [each.get("data-follow") for each in page.all("pre") if each.get("id") == "console"] == [run.id]
    assert "\x1b" not in page.source


async def test_a_part_of_a_long_console_is_not_followed_and_leads_to_the_others(lab: ServiceBench) -> None:
    run = await booted(lab, *MANY)
    page = await (await signed_in(lab, "eve")).see(f"/runs/{run.id}?line={PAGE + 1}")
    assert numbered(page) == [str(number) for number in range(PAGE + 1, 2 * PAGE + 1)]
    assert "Lines 501 to 1,000 of 1,100. Earlier lines Later lines" in page.words
    assert not [each for each in page.all("pre") if "data-follow" in each]


async def test_without_a_script_the_page_lists_what_is_found(lab: ServiceBench) -> None:
    run = await booted(lab, *MANY)
    page = await (await signed_in(lab, "eve")).see(f"/runs/{run.id}?find=line+77")
    assert numbered(page) == ["77", *map(str, range(770, 780))]
    assert f"11 of {len(MANY):,} lines have “line 77”." in page.words
    assert f"/runs/{run.id}?attempt=1&line=770#L770" in page.links


async def test_a_file_has_the_text_alone(lab: ServiceBench) -> None:
    run = await booted(lab, "one \x1b[31mred\x1b[0m \u202eturned\x07")
    reply = await (await signed_in(lab, "eve")).ask("GET", f"/runs/{run.id}/console.txt")
    assert reply.status == 200
    assert reply.body == b"one red turned\n"
    assert reply.headers["content-disposition"] == f'attachment; filename="console-{run.id}-1.txt"'
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


async def test_the_api_has_no_colours(lab: ServiceBench) -> None:
    run = await booted(lab, "one \x1b[31mred\x1b[0m")
    for path in (f"/runs/{run.id}", f"/runs/{run.id}/console"):
        reply = await lab.ask("GET", path)
        assert "one red" in reply.text
        assert "u001b" not in reply.text.lower()


async def test_what_the_journal_gets_at_the_end_is_shown_before(lab: ServiceBench) -> None:
    """Beyond what it gets at once, only the last lines are kept."""
    wide = "x" * 900
    run = await booted(lab, *(f"{number} {wide}" for number in range(2000)))
    page = await (await signed_in(lab, "eve")).see(f"/runs/{run.id}")
    assert "1999 xxx" in page.source
    assert (
        "only the last lines of this attempt are kept"
        in (await (await signed_in(lab, "eve")).ask("GET", f"/runs/{run.id}/console.txt")).text
    )


@pytest.mark.parametrize("query", ["attempt=0", "attempt=2", "attempt=x", "line=-1", "line=1.5"])
async def test_an_attempt_or_line_that_is_none_is_refused(lab: ServiceBench, query: str) -> None:
    run = await booted(lab, "one")
    reply = await (await signed_in(lab, "eve")).ask("GET", f"/runs/{run.id}?{query}")
    assert reply.status == 400
    assert query.partition("=")[0] in reply.text
