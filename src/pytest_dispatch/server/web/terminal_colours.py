"""Turns the colours of terminals (SGR sequences) into classes of ours; whatever else a terminal obeys is left out.

A colour becomes the nearest of seven hues, which the style sheet makes readable in both themes. A background is a tint
of its hue, on which the text has the page's ink; black and white are the page's own. Blinking and hidden text are
plain text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from pytest_dispatch.core.plain_text import COLOUR, painted, plain

if TYPE_CHECKING:
    from rich.ansi import AnsiDecoder
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

BEFORE = 200  # colours before the first line of which account is taken
MOST = 5_000  # changes of colour on a page; the lines after them are plain, so that none takes long

#: Hues by the number of a terminal's colour, 0 to 15; black and white are none.
_SIX = ("red", "green", "yellow", "blue", "magenta", "cyan")
_HUES = ("", *_SIX, "", "soft", *_SIX, "")
_GROUNDS = {7: "soft", 15: "soft"}  # a white ground is to be seen
_RESETS = ("\x1b[0m", "\x1b[m")


def coloured(lines: Iterable[str], before: str = "") -> Iterator[Markup]:
    """Yield lines as markup; colours go on from one line to the next, as in a terminal.

    Args:
        lines: The lines, as a machine wrote them.
        before: What it wrote before them.
    """
    from rich.ansi import AnsiDecoder

    decoder = AnsiDecoder()
    decoder.decode_line("".join(COLOUR.findall(before[_last_reset(before) :])[-BEFORE:]))
    left = MOST
    for line in lines:
        left -= line.count("\x1b")
        yield _coloured(decoder, line) if left >= 0 else escape(plain(line))


def _last_reset(text: str) -> int:
    return max(0, *map(text.rfind, _RESETS))


def _coloured(decoder: AnsiDecoder, line: str) -> Markup:
    if "\x1b" not in line and not decoder.style:
        return escape(plain(line))
    text = decoder.decode_line(painted(line).replace("\r", ""))
    return Markup("").join(_parts(text))


def _parts(text: Text) -> Iterator[Markup]:
    """Yield the parts of a line, which follow each other: those with a style are spans."""
    at, whole = 0, text.plain
    for span in text.spans:
        classes = _classes(span.style) if not isinstance(span.style, str) else ""
        yield escape(whole[at : span.start])
        part = escape(plain(whole[span.start : span.end]))
        yield Markup('<span class="{}">{}</span>').format(classes, part) if classes else part
        at = span.end
    yield escape(whole[at:])


@lru_cache(4096)
def _classes(style: Style) -> str:
    """Return the classes of a style."""
    hue, ground = _hue(style.color), _ground(style.bgcolor)
    if style.reverse:
        hue, ground = ground, hue or "soft"
    found = [f"on-{ground}"] if ground else [hue or ("soft" if style.dim else "")]
    found += [name for name in ("bold", "italic", "underline", "strike") if getattr(style, name)]
    return " ".join(f"t-{each}" for each in found if each)


def _hue(color: Color | None) -> str:
    return "" if color is None or color.is_default else _HUES[_number(color)]


def _ground(color: Color | None) -> str:
    if color is None or color.is_default:
        return ""
    return _GROUNDS.get(_number(color), _HUES[_number(color)])


def _number(color: Color) -> int:
    """Return the nearest of a terminal's 16 colours."""
    from rich.color import ColorSystem

    return color.downgrade(ColorSystem.STANDARD).number or 0
