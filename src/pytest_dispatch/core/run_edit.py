"""What people change of a run that waits, and how a run differs from the template of which it was queued."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Run, Workload
from pytest_dispatch.core.requirements import Requirements, read_requirements
from pytest_dispatch.core.templates import Template

LONGEST_NAME = 200  # characters

#: What of a run can be set back to what its template has; of `limits` and `payload` also one, such as `payload.ref`.
PARTS = ("name", "group", "requires", "labels", "limits", "payload", "priority", "requeue")
ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEdit:
    """What is different of a run's workload; what is None stays as it is.

    Attributes:
        group: Id of the group in which it waits then.
        requires: What a machine must have, beside what its group and its payload require.
        limits: Limits in seconds that are set, by name; None for that of its session.
        payload: Values of its payload that are set, by name; None takes one out.
    """

    name: str | None = None
    group: str | None = None
    requires: Requirements | None = None
    labels: tuple[str, ...] | None = None
    limits: Mapping[str, float | None] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self != _NOTHING

    def of(self, workload: Workload) -> Workload:
        """Return a workload with what is different.

        Raises:
            ConfigError: The name cannot be used.
        """
        if self.name is not None:
            check_name(self.name)
        said = {"name": self.name, "group": self.group, "requires": self.requires, "labels": self.labels}
        given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        limits, payload = _merged(workload.limits, self.limits), _merged(workload.payload, self.payload)
        return replace(workload, limits=limits, payload=payload, **given)


_NOTHING = RunEdit()


def check_name(name: str) -> None:
    """Refuse a name that people could not read.

    Raises:
        ConfigError: It is empty, too long, or has characters that do not show.
    """
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise ConfigError(f"name: expected one line of 1 to {LONGEST_NAME} characters, got {name[:80]!r}")


def _merged(before: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**before, **said}.items() if value is not None}


def differences(run: Run, template: Template) -> dict[str, Any]:
    """Return what a template has, by what of a run is different: `name`, `payload.ref`, `limits.boot` and so on.

    Of values that the template does not have, it is None.
    """
    has, own = template.workload, run.workload
    pairs: dict[str, tuple[Any, Any]] = {
        "name": (has.name, own.name),
        "group": (template.group, run.group),
        "requires": ([*map(str, has.requires)], [*map(str, own.requires)]),
        "labels": ([*has.labels], [*own.labels]),
        "priority": (has.priority, run.priority),
        "requeue": (template.requeue, run.requeue.most if run.requeue is not None else 0),
    }
    found = {name: theirs for name, (theirs, ours) in pairs.items() if theirs != ours}
    return {
        **found,
        **dict(_apart("limits", has.limits, own.limits)),
        **dict(_apart("payload", has.payload, own.payload)),
    }


def _apart(part: str, has: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in {**has, **own}:
        if has.get(name) != own.get(name):
            yield f"{part}.{name}", has.get(name)


def set_back(different: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
    """Return those of the differences that are named, also by the beginning of their names, or by `ALL`.

    Raises:
        ConfigError: One names nothing that a template could have.
    """
    for name in wanted:
        if name != ALL and name.partition(".")[0] not in PARTS:
            raise ConfigError(f"reset: expected {ALL}, or some of {', '.join(PARTS)}, got {name[:80]!r}")
    named = {ALL, *different} if ALL in wanted else set(wanted)
    return {name: value for name, value in different.items() if {name, name.partition(".")[0]} & named}


def edit_of(parts: Mapping[str, Any]) -> RunEdit:
    """Return the edit that sets these parts, as `differences` names them; priority and requeue are no part of it."""
    split = [(*name.partition("."), value) for name, value in parts.items()]
    requires = parts.get("requires")
    return RunEdit(
        name=parts.get("name"),
        group=parts.get("group"),
        requires=None if requires is None else read_requirements(requires, "requires"),
        labels=tuple(parts["labels"]) if "labels" in parts else None,
        limits={name: value for part, _, name, value in split if part == "limits"},
        payload={name: value for part, _, name, value in split if part == "payload"},
    )


def changed_parts(before: Run, after: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a run was and is where that is different; of a payload, which may have secrets, the names alone."""
    was, now = _told(before), _told(after)
    names = [name for name in now if was[name] != now[name]]
    payload = [name for name, _ in _apart("payload", before.workload.payload, after.workload.payload)]
    more = {"payload": [name.partition(".")[2] for name in payload]} if payload else {}
    return {name: was[name] for name in names}, {**{name: now[name] for name in names}, **more}


def _told(run: Run) -> dict[str, Any]:
    workload = run.workload
    return {
        "name": workload.name,
        "group": run.group,
        "requires": [*map(str, workload.requires)],
        "labels": [*workload.labels],
        "limits": dict(workload.limits),
        "priority": run.priority,
        "requeue": run.requeue.most if run.requeue is not None else 0,
    }
