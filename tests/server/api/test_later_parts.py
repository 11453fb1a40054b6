"""What routes name and load later: each of it is there, and no private lab loads it before somebody asks."""

from __future__ import annotations

import inspect

import pytest

from pytest_dispatch.server.api.route import Later, Route, loaded
from pytest_dispatch.server.api.routes import ROUTES, all_routes


@pytest.mark.parametrize("route", all_routes(), ids=lambda route: f"{route.method} {route.path}")
def test_each_handler_can_be_loaded_and_answers_without_blocking(route: Route) -> None:
    assert inspect.iscoroutinefunction(loaded(route.handler))


@pytest.mark.parametrize("route", all_routes(), ids=lambda route: f"{route.method} {route.path}")
def test_each_type_that_is_named_is_one(route: Route) -> None:
    for named in (route.takes, route.gives):
        assert not isinstance(named, Later) or inspect.isclass(loaded(named))


def test_with_what_a_session_begins_is_loaded_before_the_first_request() -> None:
    at_once = {route.path for route in ROUTES if not isinstance(route.handler, Later)}
    assert {"/sessions", "/sessions/{session}/runs", "/sessions/{session}/events"} <= at_once
