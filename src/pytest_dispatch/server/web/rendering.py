"""Makes HTML from templates. Everything is escaped; control characters and changes of direction are left out."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pytest_dispatch.core.duration import format_roughly
from pytest_dispatch.core.moments import dated
from pytest_dispatch.core.plain_text import plain
from pytest_dispatch.server.web.assets import build, modules, url_of

TEMPLATES = Path(__file__).parent / "templates"
_TIME = '<time datetime="{}T{}Z" data-as="{}">{} UTC</time>'

_PART = re.compile(r"([0-9.]+)([hms])")
_UNITS = {"h": "h", "m": "min", "s": "s"}


def _harmless(value: Any) -> Any:
    """Return a text without what could change how others are shown; markup of our own stays as it is."""
    return plain(value) if type(value) is str and not value.isprintable() else value


def _iso(at: float) -> str:
    return dated(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(at: float, shown_as: str) -> Markup:
    """Return a time as an element, which a script writes as `ago`, `soon` or `clock`; nothing for 0."""
    if not at:
        return Markup()
    text = dated(at).strftime("%Y-%m-%d %H:%M:%S")
    day, _, clock = text.partition(" ")
    return Markup(_TIME.format(day, clock, shown_as, text))  # noqa: S704 - digits alone


def _roughly(seconds: float) -> str:
    """Return a length of time as the pages' script writes them, too: `4 min`, `2 h 30 min`."""
    return _PART.sub(lambda part: f"{part[1]} {_UNITS[part[2]]} ", format_roughly(seconds)).strip()


def _safe_link(url: str) -> str:
    """Return a URL if it leads to a web page; else nothing, since others can run scripts."""
    try:
        parts = urlsplit(plain(url).strip())
    except ValueError:
        return ""
    return parts.geturl() if parts.scheme in {"http", "https"} and parts.hostname else ""


def _in_path(text: object) -> str:
    """Return a text as a segment of a path."""
    return quote(str(text), safe="")


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "iso": _iso,
        "time": _time,
        "safe_link": _safe_link,
        "in_path": _in_path,
        "roughly": _roughly,
    }
    found.globals |= {"asset": url_of, "build": build(), "modules": modules()}
    return found


def render(template: str, **values: Any) -> str:
    """Return a page."""
    return _environment().get_template(template).render(**values)
