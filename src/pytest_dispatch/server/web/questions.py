"""Asks before a change: the pages' script in a dialog, others on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.server.web.answers import BY_SCRIPT, local
from pytest_dispatch.server.web.forms import FORM
from pytest_dispatch.server.web.page import Page, html
from pytest_dispatch.server.web.said import Question, asked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from pytest_dispatch.server.api.route import ApiContext


def ask(
    context: ApiContext, request: web.Request, question: Question, action: str, fields: Iterable[tuple[str, str]]
) -> web.Response:
    """Return a question.

    Args:
        context: The lab.
        request: The request that asks for the change.
        question: The question.
        action: Where the answer is sent.
        fields: What it repeats.
    """
    if BY_SCRIPT in request.headers:
        return asked(question, action, fields)
    values = {
        "question": question,
        "action": action,
        "fields": tuple(fields),
        "back": local(request[FORM].one("next")),
    }
    return html(context, request, Page(template="question.html", title=question.ask, values=values))
