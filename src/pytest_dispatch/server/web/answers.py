"""Answers of pages that are no pages: where to go on, and what must stand on all of them."""

from __future__ import annotations

from aiohttp import web

BY_SCRIPT = "Dispatch-Page"  # the header of requests of a page's own script

#: Scripts and styles come from the lab's own files alone; no other page may show one of ours.
SAFETY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def see_other(url: str) -> web.Response:
    """Send a browser to another page after a change."""
    return web.Response(status=303, headers={**SAFETY, "Location": url})


def local(url: str) -> str:
    """Return an address of this lab to go on to; the first page if it is none."""
    fine = url.startswith("/") and not url.startswith("//") and "\\" not in url and url.isascii() and url.isprintable()
    return url if fine else "/"
