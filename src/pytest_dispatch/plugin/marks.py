"""Reads marks: the workload and expectations of `dispatch`, and marks that may keep an item from running."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.media import check_expect
from pytest_dispatch.core.model import Priority, Workload
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.requirements import Requirements, read_requirements
from pytest_dispatch.server.api.schemas import RunRequest

if TYPE_CHECKING:
    import pytest

    from pytest_dispatch.sources.base import Listing


def _takes(
    workload: str = "",
    expect: str | None = None,
    *,
    requires: Iterable[str] = (),
    group: str = "",
    priority: str = "",
) -> None:
    """Define the arguments of the mark by this signature."""


_SIGNATURE = inspect.signature(_takes)


#: Marks of pytest that a label never becomes, because they change what becomes of an item.
_OF_PYTEST = {"skip", "skipif", "xfail", "parametrize", "usefixtures", "filterwarnings", "tryfirst", "trylast"}


def marks_of(workload: Workload, listing: Listing) -> list[str]:
    """Return the names of the marks that a template's labels are: `arch=x86_64` is `arch_x86_64`."""
    if workload.group not in listing.groups:
        return []
    names = (re.sub(r"\W+", "_", label).strip("_") for label in workload.labels)
    return [name for name in names if name and name not in _OF_PYTEST and not name.startswith("dispatch")]


def wanted_by(item: pytest.Item, workload: Workload) -> RunRequest:
    """Return the request that an item submits to the lab.

    Raises:
        ConfigError: Its `dispatch` mark is invalid, or names another workload.
    """
    said = _said(item)
    named, expect = said.get("workload", workload.name), said.get("expect")
    if named != workload.name:
        raise ConfigError(f"mark dispatch: expected no other workload on the item of {workload.name}, got {named!r}")
    if expect is not None:
        workload = replace(workload, expect=check_expect("mark dispatch", workload, expect))
    if "requires" in said:
        workload = replace(workload, requires=_requirements(said["requires"]))
    if "group" in said:
        workload = replace(workload, group=_group(said["group"]))
    if "priority" in said:
        workload = replace(workload, priority=_priority(said["priority"]))
    return RunRequest(key=item.nodeid, workload=workload)


def _requirements(given: object) -> Requirements:
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise ConfigError(f'mark dispatch: expected requires=["gpu", "memory>=64"] or the like, got {given!r}')
    return read_requirements(given, "mark dispatch: requires")


def _group(given: object) -> str:
    if not isinstance(given, str) or not given:
        raise ConfigError(f"mark dispatch: expected group= the name of a group of the lab, got {given!r}")
    return given


def _priority(given: object) -> Priority:
    known = {each.name.lower(): each for each in Priority}
    if not isinstance(given, str) or given not in known:
        raise ConfigError(f"mark dispatch: expected priority= one of {', '.join(known)}, got {given!r}")
    return known[given]


def named_workload(item: pytest.Item) -> str:
    """Return the workload name in the item's `dispatch` marks; empty if there is none.

    Raises:
        ConfigError: A mark is invalid, or two contradict each other.
    """
    name = _said(item).get("workload", "")
    if not isinstance(name, str):
        raise ConfigError(f"mark dispatch: expected the name of a workload, got {name!r}")
    return name


def _said(item: pytest.Item) -> dict[str, object]:
    """Merge the arguments of the item's marks; a closer mark wins, such as the function's over its class's.

    Raises:
        ConfigError: A mark is invalid, or two at the same place contradict each other.
    """
    said: dict[str, object] = {}
    locations: dict[str, object] = {}
    for node, mark in item.iter_markers_with_node("dispatch"):
        for name, value in _arguments(mark).items():
            if locations.setdefault(name, node) is node and said.setdefault(name, value) != value:
                raise ConfigError(f"mark dispatch: expected one {name}, got {said[name]!r} and {value!r}; remove one")
    return said


def _arguments(mark: pytest.Mark) -> dict[str, object]:
    try:
        return dict(_SIGNATURE.bind(*mark.args, **mark.kwargs).arguments)
    except TypeError as error:
        got = ", ".join([*map(repr, mark.args), *(f"{key}={value!r}" for key, value in mark.kwargs.items())])
        expected = '("NAME", expect=…, requires=…, group=…, priority=…)'
        raise ConfigError(f"mark dispatch: expected {expected}, got ({plain_line(got)}): {error}") from None


def may_be_left_out(item: pytest.Item) -> bool:
    """Return whether marks may keep pytest from running the item; if it runs after all, it submits its workload."""
    return any(map(_may_apply, _leaving_out(item)))


def _leaving_out(item: pytest.Item) -> Iterator[pytest.Mark]:
    yield from item.iter_markers("skip")
    yield from item.iter_markers("skipif")
    yield from (mark for mark in item.iter_markers("xfail") if mark.kwargs.get("run") is False)


def _may_apply(mark: pytest.Mark) -> bool:
    """Return whether a condition of the mark may be true; only pytest can evaluate conditions given as strings."""
    conditions = (mark.kwargs["condition"],) if "condition" in mark.kwargs else mark.args
    return mark.name == "skip" or not conditions or any(condition is not False for condition in conditions)
