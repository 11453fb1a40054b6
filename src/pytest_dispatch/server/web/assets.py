"""Static files of the pages. Their URLs hold a digest of them all, so that a browser never asks for one twice."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from pytest_dispatch.server.api.route import ApiContext

FOLDER = Path(__file__).parent / "static"
PATH = "/static"

#: What is served, by the ending of its name; nothing else in the folder is.
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@cache
def _files() -> dict[str, bytes]:
    """Return what the files hold, by their names below the folder."""
    paths = (path for path in FOLDER.rglob("*") if path.suffix in _TYPES)
    return {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in sorted(paths)}


@cache
def build() -> str:
    """Return a digest of all files, which tells this version of them from others."""
    digest = hashlib.sha256()
    for name, content in _files().items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


@cache
def _packed(name: str) -> bytes:
    return gzip.compress(_files()[name], mtime=0)


def url_of(name: str) -> str:
    """Return the URL of a file.

    Raises:
        KeyError: There is none with this name.
    """
    if name not in _files():
        raise KeyError(name)
    return f"{PATH}/{build()}/{name}"


@cache
def modules() -> tuple[str, ...]:
    """Return the URLs of all scripts, so that a page loads them at once, and not one after the other."""
    return tuple(url_of(name) for name in _files() if name.endswith(".js"))


async def send_asset(_context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Answer with a file; a page of an earlier version gets 404, and loads itself again."""
    name = request.match_info["name"]
    if request.match_info["build"] != build() or name not in _files():
        return web.Response(status=404, text="This file is not here, or not in this version.\n")
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    packed = "gzip" in request.headers.get("Accept-Encoding", "")
    if packed:
        headers["Content-Encoding"] = "gzip"
    body = _packed(name) if packed else _files()[name]
    kind = _TYPES[f".{name.rpartition('.')[2]}"]
    return web.Response(body=body, headers=headers, content_type=kind, charset="utf-8")
