"""The API's OpenAPI 3.1 description, made from its table of routes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import msgspec

from pytest_dispatch.server.api.route import Route, loaded
from pytest_dispatch.server.api.schemas import EPOCH, Problem

_STREAMS = {"/sessions/{session}/events"}


def describe(routes: Iterable[Route], prefix: str) -> dict[str, Any]:
    """Return the description as a JSON document (https://spec.openapis.org/oas/v3.1.0)."""
    from pytest_dispatch import __version__

    routes = [replace(route, takes=loaded(route.takes), gives=loaded(route.gives)) for route in routes]
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
    if route.path.endswith("/junit"):
        good["content"] = {"application/xml": {"schema": {"type": "string"}}}
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
    if route.needs is None:
        operation["security"] = []
    if route.bare:
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    return operation


#: Refusals of operations: when an operation may answer so, with which status, and what it means.
_REFUSALS: tuple[tuple[Callable[[Route], bool], int, str], ...] = (
    (lambda r: r.needs is not None or "/sign-in" in r.path, 401, "Without a token, or not signed in"),
    (lambda _: True, 403, "Not with this role, not for another user's session, or sent by a page of another origin"),
    (lambda _: True, 421, "The header Host is neither an address nor a name of the lab"),
    (lambda _: True, 429, "Too many requests without a token, or too many tries to sign in"),
    (lambda _: True, 503, "The lab is broken: why"),
    (lambda r: r.takes is not None or bool(r.query) or r.of_session or "/sign-" in r.path, 400, "Malformed"),
    (lambda r: r.path == "/reload", 400, "The configuration has mistakes, or the lab has no file of it"),
    (lambda r: r.takes is not None or r.bare, 413, "Too long"),
    (lambda r: r.takes is not None or r.bare, 415, "The body is compressed: it has a Content-Encoding"),
    (lambda r: r.bare, 408, "The body stopped arriving; the bytes received are kept"),
    (lambda r: r.bare, 507, "No room"),
    (lambda r: r.of_session, 404, "No such session or run"),
    (lambda r: bool(re.search("user|token|github", r.path)), 404, "No such user or token, or no sign-in by GitHub"),
    (lambda r: bool(re.search("/users|/me/", r.path)), 409, "The name is taken, or the password is not kept here"),
    (lambda r: r.of_session and r.checked and not r.bare, 409, "The session has another holder by now, or has ended"),
    (lambda r: r.bare, 409, "The session has another holder or has ended; or the bytes do not continue the lab's"),
    (lambda r: r.changes, 428, "Without the epoch of the session's lease"),
    (lambda r: bool(re.search("/(override|notes|junit)$", r.path)), 409, "The run has not ended"),
)


def _refusals(route: Route) -> Iterator[tuple[int, str]]:
    return ((status, text) for applies, status, text in _REFUSALS if applies(route))


def _unfit(route: Route) -> Iterator[tuple[int, str]]:
    """Yield refusals of requests about groups, machines and queues."""
    if "{group}" in route.path or "{machine}" in route.path:
        yield 404, "No such group, machine, template or run"
    if "{run}" in route.path and route.path.endswith(("/move", "/hold")):
        yield 409, "The run is not where the request expects it"


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", route.path)
    return [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    number = {"type": "number"}
    once: list[dict[str, Any]] = [{"name": n, "in": "query", "schema": number} for n in route.query]
    once += [{"name": n, "in": "query", "schema": {"type": "string"}} for n in route.words]
    return once + [{"name": n, "in": "query", "schema": {"type": "array", "items": number}} for n in route.repeated]


def _headers(route: Route) -> list[dict[str, Any]]:
    last = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
    epoch = {"name": EPOCH, "in": "header", "schema": {"type": "integer"}, "required": route.changes}
    return [last] * (route.path in _STREAMS) + [epoch] * (route.of_session and route.checked)
