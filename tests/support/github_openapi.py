"""Holds what was said to a `FakeGitHub`, and what it answered, against GitHub's OpenAPI description."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from openapi_core.templating.media_types.exceptions import MediaTypeNotFound
from openapi_core.templating.responses.exceptions import ResponseNotFound
from openapi_schema_validator import OAS30Validator, oas30_format_checker
from werkzeug.datastructures import Headers, ImmutableMultiDict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_dispatch.testing.github import Exchange

DESCRIPTION = Path(__file__).with_name("github-openapi.json")
SERVER = "https://api.github.com"

#: What GitHub answers to any request, as its guides say, though the description does not list it at each.
EVERYWHERE = {
    400: "https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api",
    301: "https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api",
    304: "https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api",
    307: "https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api",
    401: "https://docs.github.com/en/rest/authentication/authenticating-to-the-rest-api",
    403: "https://docs.github.com/en/repositories/archiving-a-github-repository/archiving-repositories",
    404: "https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api",
    422: "https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api",
    429: "https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api",
    451: "https://github.com/github/rest-api-description/issues/3314",
}


@cache
def description() -> OpenAPI:
    """The description; that it is good OpenAPI itself is left to GitHub, as checking takes long."""
    return OpenAPI.from_dict(_whole(), config=Config(spec_validator_cls=None))


@cache
def _whole() -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(DESCRIPTION.read_bytes())
    _admit_null(whole)
    return whole


def _admit_null(node: Any) -> None:
    """Let a nullable value be null although its `enum` does not list that, as GitHub means it.

    A job that has not ended has the conclusion null; OpenAPI 3.0.3 would want that in the list.
    """
    if isinstance(node, dict) and node.get("nullable") is True and isinstance(node.get("enum"), list):
        node["enum"] = [*node["enum"], None]
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _admit_null(each)


def payload_complaints(event: str, payload: Mapping[str, Any]) -> list[str]:
    """What in a webhook's payload is not as GitHub describes it."""
    name = f"webhook-{event}-{payload['action']}".replace("_", "-")
    schema = {"$ref": f"#/components/schemas/{name}", "components": _whole()["components"]}
    errors = OAS30Validator(schema, format_checker=oas30_format_checker).iter_errors(payload)
    return [f"{name}: {'.'.join(map(str, each.path))}: {each.message}" for each in errors]


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
