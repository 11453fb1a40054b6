"""The colours of terminals on pages: which class each becomes, that nothing else passes, and that they can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hostile_texts import HOSTILE

from pytest_dispatch.server.web.assets import FOLDER
from pytest_dispatch.server.web.terminal_colours import MOST, coloured

STYLE = (Path(FOLDER) / "lab.css").read_text("utf-8")


def markup(*lines: str, before: str = "") -> list[str]:
    return [str(each) for each in coloured(lines, before)]


@pytest.mark.parametrize(
    ("codes", "classes"),
    [
        ("31", "t-red"),
        ("92", "t-green"),
        ("1;33", "t-yellow t-bold"),
        ("38;5;12", "t-blue"),
        ("38;2;200;0;200", "t-magenta"),
        ("2", "t-soft"),
        ("90", "t-soft"),
        ("3;4;9", "t-italic t-underline t-strike"),
        ("31;44", "t-on-blue"),
        ("7", "t-on-soft"),
        ("7;31", "t-on-red"),
        ("47", "t-on-soft"),
    ],
)
def test_a_colour_is_a_class_of_ours(codes: str, classes: str) -> None:
    assert markup(f"a\x1b[{codes}mb\x1b[0mc") == [f'a<span class="{classes}">b</span>c']


@pytest.mark.parametrize(
    "codes", ["0", "", "37", "97", "30", "40", "8", "5", "99", "38;5", "38;2;1", "48;9;1", "1" * 900, ";" * 900]
)
def test_what_is_no_colour_of_ours_is_plain_text(codes: str) -> None:
    assert re.sub('<span class="t-bold">(.*)</span>', r"\1", markup(f"a\x1b[{codes}mb\x1b[0mc")[0]) == "abc"


def test_a_colour_goes_on_to_the_next_line_until_it_is_reset() -> None:
    assert markup("\x1b[31mone", "two", "\x1b[mthree") == [
        '<span class="t-red">one</span>',
        '<span class="t-red">two</span>',
        "three",
    ]
    assert markup("two", before="\x1b[32mx\x1b[0m\x1b[31mone") == ['<span class="t-red">two</span>']


def test_after_many_colours_the_rest_is_plain() -> None:
    lines = markup(*["\x1b[31mx\x1b[0m"] * (MOST // 2 + 1))
    assert lines[-2:] == ['<span class="t-red">x</span>', "x"]


def test_all_else_that_a_terminal_obeys_is_left_out() -> None:
    assert markup("\x1b[2J\x1b]0;title\x07a\x1b]8;;http://evil.example\x1b\\b\x9b31m\x08\x07c\x1b[31") == ["ab31mc31"]


@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_that_a_machine_writes_is_markup(what: str) -> None:
    [line] = markup(f"\x1b[1m{HOSTILE[what]}\x1b[0m".replace("\n", " "))
    assert not re.sub(r'<span class="[a-z -]+">|</span>', "", line).count("<")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line)


# Whether they can be read


def colours() -> dict[str, tuple[str, str]]:
    """The colours of the style sheet, each as it is in light and in dark."""
    found: dict[str, tuple[str, str]] = {}
    for name, light, dark in re.findall(r"--([a-z-]+): light-dark\((#\w{6}), (#\w{6})\)", STYLE):
        found[name] = (light, dark)
    themes = [
        dict(re.findall(r"--([a-z-]+): (#\w{6});", part))
        for part in STYLE.split("@media (prefers-color-scheme: dark)")[:2]
    ]
    if len(themes) > 1:  # a style sheet that names each theme's colours in a block of its own
        found |= {name: (light, themes[1][name]) for name, light in themes[0].items() if name in themes[1]}
    return found


def brightness(colour: str) -> float:
    """The relative luminance (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((brightness(one), brightness(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def mixed(colour: str, paper: str, share: float) -> str:
    parts = [(int(colour[at : at + 2], 16), int(paper[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in parts)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_colour_can_be_read_in_both_themes(theme: int) -> None:
    of = {name: values[theme] for name, values in colours().items()}
    rules = re.findall(r"\.t-(on-)?([a-z]+) \{ (?:color|background): (.*?); \}", STYLE)
    assert {name for _, name, _ in rules} == {"red", "green", "yellow", "blue", "magenta", "cyan", "soft"}
    for ground, name, value in rules:
        used = of[re.findall(r"--([a-z-]+)", value)[0]]
        if ground and "color-mix" in value:
            used = mixed(used, of["paper"], 0.18)
        text, paper = (of["ink"], used) if ground else (used, of["paper"])
        assert contrast(text, paper) >= 4.5, (name, text, paper)
