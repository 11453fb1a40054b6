"""Makes HTML from templates. Everything is escaped; control characters and changes of direction are left out."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pytest_dispatch.core.duration import format_roughly
from pytest_dispatch.core.moments import dated
from pytest_dispatch.core.plain_text import plain
from pytest_dispatch.server.web.assets import build, url_of

TEMPLATES = Path(__file__).parent / "templates"


def _harmless(value: Any) -> Any:
    """Return a text without what could change how others are shown; markup of our own stays as it is."""
    return plain(value) if type(value) is str else value


def _iso(at: float) -> str:
    return dated(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def _written(at: float) -> str:
    """Return a time for who has no script, which turns it into the viewer's own time zone."""
    return dated(at).strftime("%Y-%m-%d %H:%M:%S UTC")


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
        "written": _written,
        "safe_link": _safe_link,
        "in_path": _in_path,
        "roughly": format_roughly,
    }
    found.globals |= {"asset": url_of, "build": build()}
    return found


def render(template: str, **values: Any) -> str:
    """Return a page."""
    return _environment().get_template(template).render(**values)
