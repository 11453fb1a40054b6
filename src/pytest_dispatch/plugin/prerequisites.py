"""Chains in pytest: which prerequisites are submitted beside the selected items, in which order, and how they show."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from pytest_dispatch.core.model import BAD
from pytest_dispatch.core.plain_text import node_name, plain_line
from pytest_dispatch.server.api.schemas import RunRequest

if TYPE_CHECKING:
    import pytest

    from pytest_dispatch.core.model import Run, Workload
    from pytest_dispatch.sources.base import Listing

REASON = 400  # longest reason why a prerequisite did not pass, in characters


def with_prerequisites(
    wanted: Iterable[RunRequest],
    listing: Listing,
    asked: Collection[str] = (),
    left_out: Mapping[str, RunRequest] | None = None,
) -> list[RunRequest]:
    """Return the requests with those for prerequisites; each chain is together and in the order of the source.

    Args:
        wanted: The items' requests, in the order of the items.
        listing: The source.
        asked: Names of workloads that are already submitted.
        left_out: Requests of items that marks may keep from running, by the workload's name.
    """
    wanted = list(wanted)
    if not any(each.workload.chain for each in wanted):
        return wanted
    listed = {workload.name: (place, workload) for place, workload in enumerate(listing.workloads)}
    known = {name: workload for name, (_, workload) in listed.items()}
    there = {*asked, *(each.workload.name for each in wanted)}
    chains: dict[str, list[RunRequest]] = {}
    for each in wanted:
        chains.setdefault(each.workload.chain, []).append(each)
    for name in _needed((each.workload for each in wanted), known):
        if name not in there:
            key = f"{listing.part_of(known[name])}::{node_name(name)}"
            alone = RunRequest(key=key, workload=known[name])
            chains[known[name].chain].append((left_out or {}).get(name, alone))
    for members in chains.values():
        members.sort(key=lambda each: listed[each.workload.name][0])
    ordered = []
    for each in wanted:
        ordered += chains.pop(each.workload.chain, []) if each.workload.chain else [each]
    return ordered


def _needed(workloads: Iterable[Workload], known: Mapping[str, Workload]) -> Iterator[str]:
    """Yield the names of all direct and indirect prerequisites."""
    found: set[str] = set()
    open_ones = [name for workload in workloads for name in workload.after]
    while open_ones:
        name = open_ones.pop()
        if name not in found and name in known:
            found.add(name)
            yield name
            open_ones += known[name].after


class Told:
    """Tracks which runs pytest has shown, so that a broken prerequisite without an item still fails the session."""

    def __init__(self) -> None:
        self._reported: set[str] = set()
        self._shown: set[str] = set()

    def note(self, report: pytest.TestReport) -> None:
        """Note an item's report; an item skipped by its own mark does not show its workload's outcome."""
        self._reported.add(report.nodeid)
        if report.when != "teardown" and (not report.skipped or hasattr(report, "wasxfail")):
            self._shown.add(report.nodeid)

    def broken(self, runs: Iterable[Run]) -> list[Run]:
        """Return the runs that did not pass, that no item has shown, and that were prerequisites of reported items."""
        runs = list(runs)
        known = {run.workload.name: run.workload for run in runs}
        needed = set(_needed((run.workload for run in runs if run.key in self._reported), known))
        return [
            run
            for run in runs
            if run.workload.name in needed and run.outcome in BAD and not run.cancelled and run.key not in self._shown
        ]


def told_broken(run: Run) -> str:
    """Return a line about a run that no item shows."""
    return f"prerequisite {run.workload.name} {run.outcome}: {plain_line(run.reason, REASON)}"
