"""The operation by which Prometheus reads a service's metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pytest_dispatch.server.api.guard import guarded
from pytest_dispatch.server.api.route import ApiContext, Route
from pytest_dispatch.server.auth.roles import Role

if TYPE_CHECKING:
    from pytest_dispatch.server.metrics import Metrics

PATH = "/metrics"


def metrics_route(context: ApiContext, metrics: Metrics) -> web.RouteDef:
    """Return the operation, which works on a broken lab too."""

    async def answer(_context: ApiContext, _request: web.Request, _body: None) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    route = Route(method="GET", path=PATH, handler=answer, summary="Metrics", needs=Role.READER, saved=True)
    return web.get(PATH, guarded(context, route))
