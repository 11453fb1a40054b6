"""Text from workloads made safe to show."""

from __future__ import annotations

import sys
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dispatch.core.plain_text import node_name, plain, plain_line, shown, shown_wrapped

ESC = "\x1b"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("as it is, ünïcödé ✓ 漢字", "as it is, ünïcödé ✓ 漢字"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("DOS\r\nlines", "DOS\nlines"),
        ("over\rwritten", "overwritten"),
        (f"{ESC}[31;1mred{ESC}[0m", "red"),
        (f"{ESC}[2J{ESC}[Hgone", "gone"),
        (f"{ESC}[?25l{ESC}[>4;2mhidden", "hidden"),
        (f"{ESC}]0;a title\x07text", "text"),
        (f"{ESC}]8;;http://x{ESC}\\link{ESC}]8;;{ESC}\\", "link"),
        (f"{ESC}P1$r0m{ESC}\\dcs", "dcs"),
        (f"{ESC}]52;c;never ends", "52;c;never ends"),
        (f"{ESC}c reset, {ESC}(Bcharset, {ESC}7saved", " reset, charset, saved"),
        (f"{ESC}{ESC}[31m[31m", "[31m"),
        (f"{ESC}", ""),
        ("\x9b31m one byte", "31m one byte"),
        ("bell\x07 back\x08 nul\x00 del\x7f", "bell back nul del"),
        ("abc\u202egnp.exe", "abcgnp.exe"),
        ("\u2066\u2067\u2069\u200e\u200f\u061cleft", "left"),
        ("half \ud83d a character", "half  a character"),
    ],
)
def test_control_characters_are_taken_out_of_texts(text: str, clean: str) -> None:
    assert plain(text) == clean


@given(
    st.text() | st.text(alphabet=st.sampled_from([ESC, "[", "]", "\\", "\x07", "m", "1", ";", "\r", "\n", "\ud800"]))
)
def test_nothing_is_left_that_acts(text: str) -> None:
    clean = plain(text)
    assert clean.encode().decode() == clean
    assert all(char.isprintable() or char in "\n\t" or ord(char) > 0x9F for char in clean)
    assert plain(clean) == clean


@pytest.mark.parametrize("piece", [f"{ESC}]", f"{ESC}[", f"{ESC}[0;", f"{ESC}]x", f"{ESC}P\\"])
def test_the_effort_grows_with_the_text_and_no_faster(piece: str) -> None:
    """What hostile text costs: these would each take hours if an escape were looked for again and again."""
    assert ESC not in plain(piece * 500_000)
    assert ESC not in plain(piece + "0" * 2_000_000 + piece)


@pytest.mark.parametrize(
    ("text", "width", "line"),
    [
        ("  one\n two\t three ", 200, "one two three"),
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        (f"{ESC}[31mabcdef{ESC}[0m", 6, "abcdef"),
        ("", 6, ""),
    ],
)
def test_a_text_becomes_one_line_of_a_width(text: str, width: int, line: str) -> None:
    assert plain_line(text, width) == line


def test_every_character_of_a_line_has_a_place_in_it() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert plain_line(everything, len(everything)).splitlines() == [plain_line(everything, len(everything))]


@pytest.mark.parametrize(
    ("name", "in_node_id"),
    [
        ("plain-1.2_x 100%.efi", "plain-1.2_x 100%.efi"),
        ("br[1]", "br%5B1%5D"),
        ("<b>&\"'", "%3Cb%3E%26%22%27"),
        (":a:", "%3Aa:"),
        ("%5B", "%255B"),
        ("a\\x", "a%5Cx"),
    ],
)
def test_a_name_is_escaped_in_node_ids(name: str, in_node_id: str) -> None:
    assert node_name(name) == in_node_id


@given(st.text(alphabet=st.sampled_from("[]<>&\"'\\:%5BDa"), max_size=8))
def test_every_name_has_a_node_name_of_its_own(name: str) -> None:
    assert unquote(node_name(name)) == name
    assert not set("[]<>&\"'\\") & set(node_name(name))


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("::set-output name=x::y", ": :set-output name=x::y"),
        ("log\n  \t::error::x", "log\n  \t: :error::x"),
        ("\u3000::error::x", "\u3000: :error::x"),
        (":::error::x", ": : :error::x"),
        ("see std::vector", "see std::vector"),
        ("x ##[error]y", "x # #[error]y"),
        ("###[group]", "## #[group]"),
        ("a##vso[task.setvariable variable=x]y", "a# #vso[task.setvariable variable=x]y"),
        ("##teamcity[testFailed name='x']", "# #teamcity[testFailed name='x']"),
        (f"#{ESC}[0m#vso[x]", "# #vso[x]"),
        (f":{ESC}[0m:error::x", ": :error::x"),
        ("## A heading", "## A heading"),
    ],
)
def test_nothing_is_a_command_to_a_runner(text: str, harmless: str) -> None:
    assert shown(text) == harmless
    assert shown(harmless) == harmless


@given(st.text(alphabet=st.sampled_from([":", "#", "[", "v", " ", "\n", "\t", "\r", ESC, "m", "\u2003"])))
def test_no_text_is_a_command(text: str) -> None:
    for harmless in (shown(text), plain_line(text, 10_000), shown_wrapped(text)):
        assert not any(line.strip().startswith("::") for line in harmless.split("\n"))
        assert "##[" not in harmless
        assert "##v[" not in harmless
    assert "::" not in shown_wrapped(text)
