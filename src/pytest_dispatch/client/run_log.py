"""Asks a lab for what a run has written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_dispatch.client.connection import LabConnection


def fetch_log(connection: LabConnection, run_id: str, case: str = "") -> str:
    """Return the end of what a run, or a case of it, has written, from the system that carries it out.

    Raises:
        DispatchError: The lab, or the system, cannot be asked now, or the run has no such case.
    """
    from pytest_dispatch.server.api.session_schemas import RunLog

    return connection.ask(RunLog, "GET", f"/runs/{run_id}/log", query={"case": case} if case else {}).text
