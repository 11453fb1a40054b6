"""The API's OpenAPI 3.1 description, made from its table of routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_dispatch.server.api.schemas import EPOCH, Problem

if TYPE_CHECKING:
    from pytest_dispatch.server.api.route import Route

_STREAMS = {"/sessions/{session}/events"}


def describe(routes: Iterable[Route], prefix: str) -> dict[str, Any]:
    """Return the description as a JSON document (https://spec.openapis.org/oas/v3.1.0)."""
    from pytest_dispatch import __version__

    routes = list(routes)
    types = [t for route in routes for t in (route.takes, route.gives) if t is not None]
    schemas, components = msgspec.json.schema_components([*types, Problem], ref_template="#/components/schemas/{name}")
    schema_of = {id(t): schema for t, schema in zip([*types, Problem], schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(prefix + route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "pytest-dispatch lab", "version": __version__},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, schema_of: dict[int, Any]) -> dict[str, Any]:
    media = "text/event-stream" if route.path in _STREAMS else "application/json"
    good: dict[str, Any] = {"description": "Success"}
    if route.gives is not None:
        schema = {"type": "string"} if route.path in _STREAMS else schema_of[id(route.gives)]
        good["content"] = {media: {"schema": schema}}
    problem = {"application/json": {"schema": schema_of[id(Problem)]}}
    bad = {str(status): {"description": text, "content": problem} for status, text in _refusals(route)}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_headers(route)],
        "responses": {str(route.status): good, **bad},
    }
    if route.takes is not None:
        body = {"application/json": {"schema": schema_of[id(route.takes)]}}
        operation["requestBody"] = {"required": True, "content": body}
    if route.bare:
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    return operation


def _refusals(route: Route) -> Iterator[tuple[int, str]]:
    yield 401, "Without the token"
    yield 403, "Sent by a web page of another origin"
    yield 421, "The header Host is neither an address nor a name of the lab"
    yield 429, "Too many requests without the token"
    yield 503, "The lab is broken: why"
    if route.takes is not None or route.query or route.of_session:
        yield 400, "Malformed"
    if route.takes is not None or route.bare:
        yield 413, "Too long"
        yield 415, "The body is compressed: it has a Content-Encoding"
    if route.bare:
        yield 408, "The body stopped arriving; the bytes received are kept"
        yield 507, "No room"
    if route.of_session:
        yield 404, "No such session or run"
        if route.checked:
            elsewhere = "; or the bytes do not continue those that the lab has" if route.bare else ""
            yield 409, f"The session has another holder by now, or has ended{elsewhere}"
    if route.changes:
        yield 428, "Without the epoch of the session's lease"


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", route.path)
    return [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    number = {"type": "number"}
    once = [{"name": n, "in": "query", "schema": number} for n in route.query]
    return once + [{"name": n, "in": "query", "schema": {"type": "array", "items": number}} for n in route.repeated]


def _headers(route: Route) -> list[dict[str, Any]]:
    last = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
    epoch = {"name": EPOCH, "in": "header", "schema": {"type": "integer"}, "required": route.changes}
    return [last] * (route.path in _STREAMS) + [epoch] * (route.of_session and route.checked)
