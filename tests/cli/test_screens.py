"""What a person sees: colours at a terminal, tables as wide as it, and nothing that texts of others do to it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import pyte
import pytest
from forks import dispatching
from operators import staffed_lab
from rich.console import Console
from shared_labs import SharedLab
from vt100 import OnTerminal, Vt100

from pytest_dispatch.cli.page import Cell, Column, Facts, Sentence, Table, Tone, cells
from pytest_dispatch.cli.plain_page import plain_text
from pytest_dispatch.cli.rich_page import rendered
from pytest_dispatch.cli.times import age, ahead, read_span, until
from pytest_dispatch.core.errors import ConfigError

EVIL = "a\x1b[2J\x1b]0;title\x07\u202eb\r\nc"
TABLE = Table(
    (Column("RUN"), Column("WAITS", right=True), Column("WHY", wraps=True)),
    (
        cells("3f9a.1", "2s", Cell("held: waits for a cable that is longer than this one", Tone.HELD)),
        cells("3f9a.12", "10s", ""),
    ),
    "nothing waits",
)


def shown(*page: Table | Facts | Sentence, width: int = 40) -> list[str]:
    """Lines of a page in a terminal of so many columns."""
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, emoji=False, highlight=False)
    console.print(rendered(page, console))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_text_that_is_long_wraps_in_its_column() -> None:
    assert shown(TABLE, width=44) == [
        "RUN      WAITS  WHY",
        "3f9a.1      2s  held: waits for a cable that",
        "                is longer than this one",
        "3f9a.12    10s",
    ]


def test_on_a_narrow_terminal_it_stands_below() -> None:
    assert shown(TABLE, width=30) == [
        "RUN      WAITS",
        "3f9a.1      2s",
        "    held: waits for a cable",
        "    that is longer than this",
        "    one",
        "3f9a.12    10s",
    ]


def test_the_widest_column_is_cut_if_there_is_no_room() -> None:
    table = Table((Column("WORKLOAD"), Column("MACHINE")), (cells("a-name-that-is-far-too-long", "rpi-01"),), "")
    assert shown(table, width=24) == ["WORKLOAD         MACHINE", "a-name-that-is…  rpi-01"]


def test_blocks_are_a_line_apart_and_an_empty_table_says_so() -> None:
    page = (Sentence("3 machines"), Table(TABLE.columns, (), "nothing waits"), Facts((("state", Cell("idle")),)))
    expected = ["3 machines", "", "nothing waits", "", "state  idle"]
    assert shown(*page) == expected
    assert plain_text(page).splitlines() == expected


def test_wide_characters_take_two_columns() -> None:
    table = Table((Column("WORKLOAD"), Column("MACHINE")), (cells("测试", "a"), cells("test", "b")), "")
    assert plain_text([table]).splitlines() == ["WORKLOAD  MACHINE", "测试      a", "test      b"]
    assert shown(table) == plain_text([table]).splitlines()


@pytest.mark.parametrize(
    "block", [Sentence(EVIL), Facts(((EVIL, Cell(EVIL)),)), Table((Column("X"),), (cells(EVIL),), "")]
)
def test_texts_of_others_do_nothing_to_a_terminal(block: Table | Facts | Sentence) -> None:
    for text in ("\n".join(shown(block)), plain_text([block])):
        assert not {"\x1b", "\x07", "\u202e", "\r"} & set(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (119, "119s"), (121, "2m"), (5400, "1h30m"), (3 * 86400, "3d")]
)
def test_ages_have_one_or_two_units(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_the_end_of_a_hold_is_rounded() -> None:
    assert until(7199.0, now=0.0) == "for 2h"
    assert until(3.0, now=5.0) == "for 0s"
    assert until(90 * 86400.0 - 0.4, now=0.0) == "for 90d"
    assert until(2 * 86400.0 - 1, now=0.0) == "for 2d"
    assert ahead(2.4 * 86400.0, now=0.0) == "in 2d"
    assert ahead(36 * 3600.0 - 1, now=0.0) == "in 36h"
    assert read_span("2d", "--for") == 2 * 86400.0
    with pytest.raises(ConfigError, match="--for: expected a duration such as"):
        read_span("soon", "--for")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLab]:
    with staffed_lab(tmp_path_factory.mktemp("lab") / "here") as lab:
        yield lab


def terminal(
    lab: SharedLab, line: str, screen: Vt100 | None = None, more: Mapping[str, str] = MappingProxyType({})
) -> OnTerminal:
    """A command at a terminal."""
    environ = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    environ |= {"DISPATCH_LAB": lab.url, "DISPATCH_TOKEN": lab.token, "TERM": "xterm-256color", **more}
    return OnTerminal(dispatching(), line.split(), lab.folder, environ, screen or Vt100(80, 24))


def test_a_terminal_gets_colours_and_with_no_color_none(lab: SharedLab) -> None:
    for more, coloured in (({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        seen = terminal(lab, "groups list", more=more)
        assert seen.end() == 0
        colours = {character.fg for row in seen.screen.buffer.values() for character in row.values()}
        assert ("green" in colours) is coloured
        assert seen.screen.rows[0].split() == ["GROUP", "QUEUED", "RUNNING", "MACHINES", "STATE"]
        seen.close()


class Forgiving(Vt100):
    """One that also hides its cursor."""

    def __init__(self) -> None:
        super().__init__(80, 24)
        self._stream = pyte.Stream(self)  # type: ignore[assignment]


def test_what_is_watched_is_drawn_in_its_place_and_stays_when_ctrl_c_ends_it(lab: SharedLab) -> None:
    watching = terminal(lab, "status --watch", Forgiving())
    watching.until(lambda screen: "left" in screen.text and "open" in screen.text)
    other = terminal(lab, "groups pause left a look")
    assert other.end() == 0
    watching.until(lambda screen: "paused: a look" in screen.text)
    assert watching.screen.text.count("GROUP") == 1
    watching.interrupt()
    assert watching.end() == 0
    assert "paused: a look" in watching.screen.text
    for each in (other, watching):
        each.close()
