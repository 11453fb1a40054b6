"""Shows the texts of reports as Markdown: what a workload wrote, without its HTML, images and scripts.

Headings begin below those of the page. Links lead to web pages or mail addresses alone, and tell them nothing of the
lab; an image is a link, so that no page asks another host for one. A text that is too long, or that takes too long, is
shown as it was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from markupsafe import Markup

from pytest_dispatch.core.plain_text import plain

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import OptionsDict

LONGEST = 20_000  # characters of a text that is shown as Markdown
TOGETHER = 100_000  # characters of all texts of a page
DEEPEST = 12  # levels of lists and quotes
MOST_MARKS = 2_000  # characters that begin or end something, such as brackets; more take more than linear time
FIRST_HEADING = 4  # the level of a text's topmost heading: a page has one, two and three
LAST_HEADING = 6

_MARKS = "[]*_`<>~!|"
_SCHEMES = {"http", "https", "mailto"}
_LEFT_ALONE = 'rel="noreferrer noopener nofollow"'


async def markdown(texts: Sequence[str]) -> list[Markup | None]:
    """Return texts as markup, made beside the event loop; None for each that must be shown as it was written."""
    room, wanted = TOGETHER, list[str | None]()
    for text in texts:
        fits = len(text) <= min(LONGEST, room) and sum(map(text.count, _MARKS)) <= MOST_MARKS
        wanted.append(text if fits else None)
        room -= len(text) if fits else 0
    return await asyncio.to_thread(lambda: [None if text is None else _made(text) for text in wanted])


@lru_cache(64)
def _made(text: str) -> Markup:
    parser, env = _parser(), dict[str, Any]()
    tokens = parser.parse(plain(text), env)
    _lower_headings(tokens)
    _name_linked_images(tokens)
    return Markup(_without_turns(parser.renderer.render(tokens, parser.options, env)))  # noqa: S704 - its HTML is ours


def _without_turns(html: str) -> str:
    """Return markup without characters that a reference such as `&#x202e;` has brought back."""
    return plain(html)


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    found = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": DEEPEST})
    found.enable(["table", "strikethrough"])
    found.validateLink = _is_web_link  # type: ignore[method-assign]
    for name, rule in _RULES.items():
        found.add_render_rule(name, rule)
    return found


def _is_web_link(url: str) -> bool:
    """Return whether a link may stand: to a web page on a named host, or to a mail address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in _SCHEMES and bool(parts.hostname or parts.scheme == "mailto")


def _lower_headings(tokens: Sequence[Token]) -> None:
    """Give headings the levels that follow those of the page, none of them left out."""
    above: list[int] = []
    for token in tokens:
        if token.type == "heading_open":
            level = int(token.tag[1:])
            while above and above[-1] >= level:
                above.pop()
            above.append(level)
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(FIRST_HEADING + len(above) - 1, LAST_HEADING)}"


def _name_linked_images(tokens: Sequence[Token]) -> None:
    """Have an image in a link be its description, as a link cannot be in another one."""
    for children in (token.children or () for token in tokens):
        depth = 0
        for child in children:
            depth += (child.type == "link_open") - (child.type == "link_close")
            if depth and child.type == "image":
                child.type = "text"


# How single things are written

_Env = MutableMapping[str, Any]
_Rule = Any  # as the library calls it: with its renderer, the tokens, the place of one, the options and the environment


def _link(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: _Env) -> str:
    del self, options, env
    return f'<a href="{Markup.escape(str(tokens[at].attrs["href"]))}" {_LEFT_ALONE}>'


def _image(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: _Env) -> str:
    token = tokens[at]
    url, said = str(token.attrs["src"]), self.renderInlineAsText(token.children or [], options, env)
    return f'<a href="{Markup.escape(url)}" {_LEFT_ALONE}>{Markup.escape(said or url)}</a>'


def _code(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: _Env) -> str:
    del self, options, env
    return f'<pre tabindex="0"><code>{Markup.escape(tokens[at].content)}</code></pre>\n'


def _table(*_given: object) -> str:
    return '<div class="wide-table" tabindex="0"><table>\n'


def _table_end(*_given: object) -> str:
    return "</table></div>\n"


def _cell(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: _Env) -> str:
    """Write a cell without its alignment, which would be a style."""
    del self, options, env
    return f"<{tokens[at].tag}>"


_RULES: Mapping[str, _Rule] = {
    "link_open": _link,
    "image": _image,
    "fence": _code,
    "code_block": _code,
    "table_open": _table,
    "table_close": _table_end,
    "th_open": _cell,
    "td_open": _cell,
}
