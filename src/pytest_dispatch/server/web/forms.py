"""Reads what forms of pages send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from aiohttp import web

from pytest_dispatch.server.auth.authentication import FORM_CSRF
from pytest_dispatch.server.limits.bounds import packing

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 2**16  # bytes of a form
MOST_FIELDS = 2000
KIND = "application/x-www-form-urlencoded"


class FormError(Exception):
    """A form cannot be read.

    Args:
        status: Status of the answer.
        text: What was expected, and what came.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, in their order."""

    fields: tuple[tuple[str, str], ...]

    def one(self, name: str) -> str:
        """Return the value of a field; empty if there is none."""
        return next((value for known, value in self.fields if known == name), "")

    def all(self, name: str) -> list[str]:
        """Return all values of a field."""
        return [value for known, value in self.fields if known == name]

    def without(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Return all other fields."""
        return [field for field in self.fields if field[0] not in set(names)]


#: Where a request keeps the form that it sent.
FORM = web.RequestKey("form", Form)


async def read_form(request: web.Request) -> Form:
    """Read the form of a request, and note what shows that a page of ours sent it.

    Raises:
        FormError: It is none, is too long, or is packed.
    """
    if request.content_type != KIND or packing(request.headers):
        raise FormError(415, f"expected a form ({KIND}), got {request.content_type[:80]!r}")
    if request.content_length is None:
        raise FormError(411, "expected a form with its length in Content-Length, got one without")
    if request.content_length > LONGEST:
        raise FormError(413, f"expected a form of at most {LONGEST} bytes, got {request.content_length}")
    raw = await request.read()
    try:
        fields = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise FormError(400, f"expected a form of at most {MOST_FIELDS} fields in UTF-8, got another one") from None
    form = Form(tuple(fields))
    request[FORM_CSRF] = form.one("csrf")
    return form
