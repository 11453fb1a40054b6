"""Which runs of a fake GitHub a list is asked for: `event`, `status`, `branch`, `created`, `actor`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pytest_dispatch.testing.github_routes import RefusalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_dispatch.testing.actions_state import FakeRun

MOST = 1000  # runs that GitHub lists where there is a filter


def filtered(runs: list[FakeRun], query: Mapping[str, str]) -> list[FakeRun]:
    """Return the runs that a query asks for."""
    asked = {name: query[name] for name in _FILTERS if name in query}
    kept = [run for run in runs if all(_FILTERS[name](run, wanted) for name, wanted in asked.items())]
    return kept[:MOST] if asked else kept


def _created(run: FakeRun, wanted: str) -> bool:
    """Compare as GitHub's search syntax says: `>=T`, `>T`, `<=T`, `<T`, `T..T`, `T`; times are whole seconds."""
    at = float(int(run.created))
    if ".." in wanted:
        first, _, last = wanted.partition("..")
        return (first == "*" or _span(first)[0] <= at) and (last == "*" or at <= _span(last)[1])
    for sign, compare in _COMPARED.items():
        if wanted.startswith(sign):
            return compare(at, _span(wanted.removeprefix(sign)))
    first_second, last_second = _span(wanted)
    return first_second <= at <= last_second


_COMPARED: dict[str, Callable[[float, tuple[float, float]], bool]] = {
    ">=": lambda at, span: at >= span[0],
    "<=": lambda at, span: at <= span[1],
    ">": lambda at, span: at > span[1],
    "<": lambda at, span: at < span[0],
}


def _span(text: str) -> tuple[float, float]:
    """Return the first and the last second of a time, or of a day."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise RefusalError(422, f"The created filter is not a date: {text}") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    length = timedelta(days=1) - timedelta(seconds=1) if len(text) == len("2026-01-31") else timedelta()
    return at.timestamp(), (at + length).timestamp()


_FILTERS: dict[str, Callable[[FakeRun, str], bool]] = {
    "event": lambda run, wanted: run.event == wanted,
    "actor": lambda run, wanted: run.actor == wanted,
    "head_sha": lambda run, wanted: run.sha == wanted,
    "check_suite_id": lambda run, wanted: str(run.id) == wanted,
    "branch": lambda run, wanted: run.ref == wanted,
    "status": lambda run, wanted: wanted in (run.status, run.conclusion),
    "created": _created,
}
