"""Operations of the API, as forms of pages name them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from pytest_dispatch.server.api.routes import all_routes

if TYPE_CHECKING:
    from pytest_dispatch.server.api.route import Route


@cache
def operation(method: str, path: str) -> Route:
    """Return an operation by its method and path.

    Raises:
        KeyError: There is none.
    """
    return {(route.method, route.path): route for route in all_routes()}[method, path]
