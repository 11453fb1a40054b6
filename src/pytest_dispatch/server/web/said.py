"""What came of a change, and questions before one: for the pages' script as JSON, for others as pages."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from pytest_dispatch.server.auth.callers import CALLER
from pytest_dispatch.server.web.answers import BY_SCRIPT, SAFETY, local, see_other
from pytest_dispatch.server.web.forms import FORM

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COOKIE = "dispatch-said"
LASTS = 20  # seconds until a page no longer says what came of a change
LONGEST = 3000  # characters of the cookie


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """What undoes a change: the fields of a form, and where it is sent."""

    action: str
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What came of a change.

    Attributes:
        undo: What undoes it; None if nothing does.
        failed: Whether a part of it was refused.
        next: Where to go on; empty for the page on which it was asked for.
        made: The address of the run that it has made; empty for none, or several.
    """

    said: str
    undo: Undo | None = None
    failed: bool = False
    next: str = ""
    made: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked before a change.

    Attributes:
        ask: What is about to be done.
        text: What will happen.
        label: What the button says.
        reason: Whether a reason must be given.
    """

    ask: str
    text: str
    label: str
    reason: bool = False


def told(request: web.Request, said: Said) -> web.Response:
    """Return what came of a change: to a script as it is; others are sent back to their page, which says it."""
    if BY_SCRIPT in request.headers:
        return _json(said)
    answer = see_other(local(said.next or request[FORM].one("next")))
    text = urlsafe_b64encode(msgspec.json.encode(said)).decode()
    if len(text) > LONGEST:
        text = urlsafe_b64encode(msgspec.json.encode(Said(said=said.said[:500], failed=said.failed))).decode()
    secure = request[CALLER].scheme == "https"
    answer.set_cookie(COOKIE, text, max_age=LASTS, path="/", httponly=True, samesite="Strict", secure=secure)
    return answer


def said_before(request: web.Request) -> Said | None:
    """Return what came of the change after which a browser was sent to this page; None if there was none."""
    text = request.cookies.get(COOKIE, "")
    if not text or BY_SCRIPT in request.headers or request.method != "GET":
        return None
    try:
        return msgspec.json.decode(urlsafe_b64decode(text), type=Said)
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return None  # a cookie that the lab did not make


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as a script gets it, with what its answer repeats and where that is sent."""

    ask: str
    text: str
    label: str
    reason: bool
    action: str
    fields: tuple[tuple[str, str], ...]


def asked(question: Question, action: str, fields: Iterable[tuple[str, str]]) -> web.Response:
    """Return a question to a script."""
    return _json(
        Asked(
            ask=question.ask,
            text=question.text,
            label=question.label,
            reason=question.reason,
            action=action,
            fields=tuple(fields),
        )
    )


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), headers=SAFETY, content_type="application/json")


def unsaid(fields: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the fields of a form that a question repeats."""
    return tuple((name, value) for name, value in fields if name not in {"csrf", "next", "sure", "reason"})
