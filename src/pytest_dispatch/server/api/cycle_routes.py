"""The routes of the API for cycles."""

from __future__ import annotations

from pytest_dispatch.core.cycle_state import Round
from pytest_dispatch.server.api import cycle_handlers as handlers
from pytest_dispatch.server.api.cycle_schemas import CycleView, RoundFile, RoundWanted
from pytest_dispatch.server.api.group_schemas import HoldWanted
from pytest_dispatch.server.api.route import Route
from pytest_dispatch.server.auth.roles import Role

CYCLE_ROUTES = (
    Route(
        method="GET",
        path="/cycles",
        handler=handlers.list_cycles,
        needs=Role.READER,
        summary="The cycles: how each stands, when its next round begins, and its last one",
        gives=list[CycleView],
    ),
    Route(
        method="GET",
        path="/cycles/{cycle}",
        handler=handlers.show_cycle,
        needs=Role.READER,
        summary="A cycle",
        gives=CycleView,
    ),
    Route(
        method="POST",
        path="/cycles/{cycle}/schedule",
        handler=handlers.start_cycle,
        needs=Role.OPERATOR,
        audit="cycle.start",
        summary="Start a cycle: its rounds begin by its schedule, with these values of its parameters",
        takes=RoundWanted,
        gives=CycleView,
    ),
    Route(
        method="DELETE",
        path="/cycles/{cycle}/schedule",
        handler=handlers.stop_cycle,
        needs=Role.OPERATOR,
        audit="cycle.stop",
        summary="Stop a cycle: no more rounds begin, and one that runs ends, its runs cancelled",
        gives=CycleView,
    ),
    Route(
        method="POST",
        path="/cycles/{cycle}/hold",
        handler=handlers.pause_cycle,
        needs=Role.OPERATOR,
        audit="cycle.pause",
        summary="Pause a cycle: a round that runs goes on, and no more begin",
        takes=HoldWanted,
        gives=CycleView,
    ),
    Route(
        method="DELETE",
        path="/cycles/{cycle}/hold",
        handler=handlers.resume_cycle,
        needs=Role.OPERATOR,
        audit="cycle.resume",
        summary="Resume a cycle",
        gives=CycleView,
    ),
    Route(
        method="GET",
        path="/cycles/{cycle}/rounds",
        handler=handlers.list_rounds,
        needs=Role.READER,
        summary="The latest rounds of a cycle, the newest first: `most` of them (20, at most 1000), those `before` a"
        " number",
        gives=list[Round],
        query=("before", "most"),
    ),
    Route(
        method="POST",
        path="/cycles/{cycle}/rounds",
        handler=handlers.run_now,
        needs=Role.OPERATOR,
        audit="cycle.now",
        summary="Begin a round now, with these values of the parameters, whether the cycle is started or not",
        takes=RoundWanted,
        gives=CycleView,
        status=202,
    ),
    Route(
        method="GET",
        path="/cycles/{cycle}/rounds/{number}",
        handler=handlers.show_round,
        needs=Role.READER,
        summary="A round: its outcome, how many cases had which, and what is different from the one before",
        gives=Round,
    ),
    Route(
        method="GET",
        path="/cycles/{cycle}/rounds/{number}/output",
        handler=handlers.show_output,
        needs=Role.READER,
        summary="What the pytest of a round showed, so far if it runs; of much, the last mebibyte",
        gives=RoundFile,
    ),
    Route(
        method="GET",
        path="/cycles/{cycle}/rounds/{number}/junit",
        handler=handlers.show_junit,
        needs=Role.READER,
        summary="The JUnit file of a round",
        gives=RoundFile,
    ),
)
