"""Holds what was said to a `FakeGitHub`, and what it answered, against GitHub's OpenAPI description."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from openapi_core.templating.media_types.exceptions import MediaTypeNotFound
from openapi_core.templating.responses.exceptions import ResponseNotFound
from werkzeug.datastructures import Headers, ImmutableMultiDict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_dispatch.testing.github import Exchange

DESCRIPTION = Path(__file__).with_name("github-openapi.json")
SERVER = "https://api.github.com"

#: What GitHub answers to any request, as its guides say, though the description does not list it at each.
EVERYWHERE = {
    301: "https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api",
    307: "https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api",
    401: "https://docs.github.com/en/rest/authentication/authenticating-to-the-rest-api",
    403: "https://docs.github.com/en/repositories/archiving-a-github-repository/archiving-repositories",
    451: "https://github.com/github/rest-api-description/issues/3314",
}


@cache
def description() -> OpenAPI:
    """The description; that it is good OpenAPI itself is left to GitHub, as checking takes long."""
    return OpenAPI.from_dict(json.loads(DESCRIPTION.read_bytes()), config=Config(spec_validator_cls=None))


class Judge:
    """An observer of a `FakeGitHub`.

    An answer that a test injected is let pass only where the description knows no such answer: a status or a
    content type that is not listed, or a success, which is then meant to be nonsense.
    """

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)

    def complaints(self) -> list[str]:
        """What was not as GitHub describes it."""
        return [complaint for exchange in self.exchanges for complaint in _judged(exchange)]


def _judged(exchange: Exchange) -> list[str]:
    request = _Request.of(exchange)
    found = []
    try:
        description().validate_request(request)
    except OpenAPIError as error:
        found.append(f"request {exchange.method} {exchange.path}: {_in_words(error)}")
    injected_nonsense = exchange.injected and exchange.status < 300
    try:
        description().validate_response(request, _Response.of(exchange))
    except OpenAPIError as error:
        unlisted = any(isinstance(each, (ResponseNotFound, MediaTypeNotFound)) for each in _causes(error))
        allowed = exchange.injected or exchange.status in EVERYWHERE if unlisted else injected_nonsense
        if not allowed:
            found.append(f"answer {exchange.status} to {exchange.method} {exchange.path}: {_in_words(error)}")
    return found


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _in_words(error: BaseException) -> str:
    parts: list[str] = []
    for cause in _causes(error):
        parts.append(str(cause))
        parts += [f"{'.'.join(map(str, each.path))}: {each.message}" for each in getattr(cause, "schema_errors", ())]
    return "; ".join(parts)


@dataclass(kw_only=True)
class _Request:
    """An exchange's request as openapi-core wants it; `parameters.path` is filled in by it."""

    path: str
    method: str
    parameters: RequestParameters
    content_type: str
    body: bytes | None
    host_url: str = SERVER

    @classmethod
    def of(cls, exchange: Exchange) -> _Request:
        parameters = RequestParameters(
            query=ImmutableMultiDict(exchange.query),
            header=Headers(dict(exchange.headers)),
            cookie=ImmutableMultiDict(),
        )
        return cls(
            path=exchange.path,
            method=exchange.method.lower(),
            parameters=parameters,
            content_type=exchange.headers.get("Content-Type", ""),
            body=exchange.body or None,
        )


@dataclass(frozen=True, kw_only=True)
class _Response:
    """An exchange's answer as openapi-core wants it."""

    status_code: int
    headers: Headers
    content_type: str
    data: bytes

    @classmethod
    def of(cls, exchange: Exchange) -> _Response:
        return cls(
            status_code=exchange.status,
            headers=Headers(dict(exchange.answer_headers)),
            content_type=exchange.answer_headers.get("Content-Type", ""),
            data=exchange.answer,
        )
