"""Makes text from workloads and machines harmless in chat systems: it looks the same, but calls nobody.

One text goes to systems with different markup (Slack, Discord, Mattermost, Telegram, e-mail), so nothing is escaped for
one of them: signs that begin markup or a mention become signs that look alike, or get a zero-width space behind them.
"""

from __future__ import annotations

import re

from pytest_dispatch.core.plain_text import plain_line

ZERO_WIDTH = "\u200b"

#: Signs that are replaced wherever they stand: <!everyone>, <@U1>, **bold**, `code`, ~~gone~~, ||hidden||.
_ALIKE = str.maketrans({"<": "\u2039", ">": "\u203a", "*": "\u2217", "`": "\u02cb", "~": "\u223c", "|": "\u00a6"})

#: Signs that end or begin a word; inside one, as in `memory_test`, they are no markup.
_EDGES = re.compile(r"_(?!\w)|(?<!\w)_|(?<=_)_|_(?=_)")

#: Signs after which a zero-width space is inserted: mentions, links with another text, addresses, names of pictures.
_CALLS = re.compile(r"[@\uff20#]|\](?=[(\[])|:(?=//)|:(?=[\w+-]+:)")


def chat_line(text: str, width: int = 120) -> str:
    """Return a text in one harmless line, cut to about `width` characters."""
    line = _EDGES.sub("\u02cd", plain_line(text, width).translate(_ALIKE))
    return _CALLS.sub(rf"\g<0>{ZERO_WIDTH}", line)
