"""Collects workloads as items, beside all other tests, and submits the selected ones to the lab."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pytest_dispatch.core.errors import ConfigError, DispatchError
from pytest_dispatch.core.media import files_of
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.plugin.items import DispatchCollector, DispatchItem
from pytest_dispatch.plugin.lab_session import LabSession, names
from pytest_dispatch.plugin.marks import marks_of, may_be_left_out, named_workload, wanted_by
from pytest_dispatch.plugin.prerequisites import with_prerequisites

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_dispatch.core.model import Workload
    from pytest_dispatch.server.api.schemas import RunRequest
    from pytest_dispatch.sources.base import Listing


#: Hooks that must be known before the session is opened in the lab; pytest has not loaded every conftest.py by then.
_EARLY = ("pytest_dispatch_workloads", "pytest_dispatch_verdict", "pytest_dispatch_issue")


class DispatchCollection:
    """The part of the plugin that runs in every process that collects."""

    def __init__(self, config: pytest.Config, lab_session: LabSession) -> None:
        self._lab_session = lab_session
        self._hooks = set(_early_hooks(config))
        listing = lab_session.listing
        self._files = files_of(listing.workloads)
        for name in sorted({name for each in listing.workloads for name in marks_of(each, listing)}):
            config.addinivalue_line("markers", f"{name}: an item whose template has this label.")

    @pytest.hookimpl(tryfirst=True)
    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Ignore workload files early if pytest also collects Python tests from their folder; this saves time."""
        return True if str(collection_path) in self._files else None

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Add our collector to those that pytest found."""
        report = yield
        if isinstance(collector, pytest.Session) and report.passed and self._lab_session.wanted != frozenset():
            report.result += [DispatchCollector.of(collector, part) for part in self._lab_session.listing.parts]
        return report

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Submit all selected workloads at once, so that machines stay busy whichever item pytest waits for."""
        if session.testsfailed and not session.config.getoption("continue_on_collection_errors", False):
            return  # pytest is about to stop
        for name, where in _early_hooks(session.config):
            if (name, where) not in self._hooks:
                raise pytest.UsageError(f"{name} is found too late, in {where}: {_MOVE_IT}")
        wanted = self._wanted(session.items)
        if self._lab_session.client is not None and wanted:
            try:
                self._lab_session.submit(wanted)
            except DispatchError as error:
                raise pytest.UsageError(str(error)) from error

    def _wanted(self, items: Iterable[pytest.Item]) -> list[RunRequest]:
        wanted: dict[str, RunRequest] = {}
        left_out: dict[str, RunRequest] = {}
        for item in items:
            with suppress(ConfigError):  # the mark is wrong: the item reports that itself when it runs
                workload = self._workload_of(item)
                if workload is None:
                    continue
                if may_be_left_out(item):
                    if isinstance(item, DispatchItem):
                        left_out[workload.name] = wanted_by(item, workload)
                    continue
                if item.nodeid in wanted:
                    raise pytest.UsageError(f"{item.nodeid} {_TWICE}")
                wanted[item.nodeid] = wanted_by(item, workload)
        return with_prerequisites(wanted.values(), self._lab_session.listing, left_out=left_out)

    def _workload_of(self, item: pytest.Item) -> Workload | None:
        if isinstance(item, DispatchItem):
            return item.workload
        # by now, every test with the `dispatch` mark uses the fixture
        uses = "dispatch_workload" in getattr(item, "fixturenames", ())
        return self._lab_session.workload(named_workload(item)) if uses else None


_TWICE = (
    "comes more than once: expected each item once, or several passes would come of one boot; leave out the option that"
    " repeats it, or repeat with pytest-repeat"
)
_MOVE_IT = "expected it in a plugin, or in the conftest.py of the root directory or of a path on the command line"


def _early_hooks(config: pytest.Config) -> list[tuple[str, str]]:
    """Return the name and the plugin of each implementation of the hooks in `_EARLY`."""
    return [(name, impl.plugin_name) for name in _EARLY for impl in getattr(config.hook, name).get_hookimpls()]


def take_node_ids(config: pytest.Config, listing: Listing) -> frozenset[str] | None:
    """Remove workload node ids from the command line, because pytest would look for them on disk.

    Args:
        config: Its `args` are changed in place. A folder given as a whole is kept: it may also contain Python tests.
        listing: The source, with the prefixes of the workload node ids.

    Returns:
        The names of the requested workloads; None for all; an empty set if the command line names only other tests.

    Raises:
        pytest.UsageError: A group has no workload of that name.
    """
    ours = {arg: _names_in(config, arg, listing) for arg in config.args}
    found = {name for each in ours.values() if each is not None for name in each}
    if not found:
        given = config.args_source is pytest.Config.ArgsSource.ARGS
        return frozenset() if given else None
    config.args[:] = [arg for arg in config.args if ours[arg] is None or _on_disk(config, arg)]
    return None if "" in found else frozenset(found)


def _names_in(config: pytest.Config, arg: str, listing: Listing) -> set[str] | None:
    """Return the workload names in an argument; an empty one for all, None if the argument is not ours."""
    for part, workloads in listing.parts.items():
        name = _name(config, arg, part)
        if name is None:
            continue
        if name and listing.groups and not any(names(name, each) for each in workloads):
            has = plain_line(", ".join(each.name for each in workloads))
            raise pytest.UsageError(f"not found: {part}::{name} (it has: {has})")
        return {name} if name or not listing.groups else {each.name for each in workloads}
    return None


def _name(config: pytest.Config, arg: str, source: str) -> str | None:
    """Return the workload name in an argument; empty for the whole source, None if the argument is not ours.

    The source may be written as in node ids, relative to the root directory, or as any other path: pytest itself
    shows node ids relative to its working directory.
    """
    found, colons, name = arg.partition("::")
    there = os.path.normpath(config.rootpath / source)
    ours = found.rstrip("/") == source or os.path.normpath(config.invocation_params.dir / found) == there
    return name if ours and (name or not colons) else None


def _on_disk(config: pytest.Config, arg: str) -> bool:
    return "::" not in arg and (config.invocation_params.dir / arg).exists()


def check_names(lab_session: LabSession) -> None:
    """Refuse node ids of workloads that do not exist.

    Raises:
        pytest.UsageError: A workload does not exist; names the first one, and all existing workloads.
    """
    for name in sorted(lab_session.wanted or ()):
        if any(names(name, workload) for workload in lab_session.listing.workloads):
            continue
        why = dict(lab_session.listing.left_out).get(name)
        told = f"it was left out: {why}" if why else f"it has: {lab_session.known}"
        raise pytest.UsageError(f"not found: {lab_session.listing.name}::{name} ({told})")
