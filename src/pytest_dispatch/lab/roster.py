"""What a service is configured to have, and can be told anew while it runs: machines, groups and templates."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pytest_dispatch.core.cycle_plan import CyclePlan
    from pytest_dispatch.core.groups import Group
    from pytest_dispatch.core.machine import Identity
    from pytest_dispatch.core.templates import Template
    from pytest_dispatch.machines.base import Spec

V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterMachine:
    """A machine that the lab is told of.

    Attributes:
        id: Its name.
        identities: By what it is recognised, beside its boot URL.
        labels: What it has, beside what its driver says.
        driver: How the lab powers it, boots it and reads its console; None if it does not.
    """

    id: str
    identities: tuple[Identity, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    driver: Spec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """All machines, groups, templates and cycles that a lab is configured to have, in order."""

    machines: tuple[RosterMachine, ...] = ()
    groups: tuple[Group, ...] = ()
    templates: tuple[Template, ...] = ()
    cycles: tuple[CyclePlan, ...] = ()


async def _nothing() -> None:
    """Apply nothing."""


async def _as_it_is() -> Callable[[], Awaitable[None]]:
    return _nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What a configuration file says when it is read anew.

    Attributes:
        roster: Its machines, groups and templates.
        keys: Its other keys that are different, and can count at once.
        restart: Those that are different, and count when the lab is started again.
        prepare: Returns what makes `keys` count, or raises ConfigError; it changes nothing itself.
    """

    roster: Roster
    keys: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    prepare: Callable[[], Awaitable[Callable[[], Awaitable[None]]]] = _as_it_is


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Ids of what a new configuration added, changed, and no longer has."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.gone)

    def __str__(self) -> str:
        parts = (("added", self.added), ("changed", self.changed), ("gone", self.gone))
        return "; ".join(f"{what} {', '.join(ids)}" for what, ids in parts if ids) or "as before"


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterChange:
    """What is different in a new configuration.

    Attributes:
        keys: Other keys that are different, and count now.
        restart: Keys that are different, and count when the lab is started again.
    """

    machines: Difference = Difference()
    groups: Difference = Difference()
    templates: Difference = Difference()
    cycles: Difference = Difference()
    keys: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.machines or self.groups or self.templates or self.cycles or self.keys or self.restart)

    def __str__(self) -> str:
        said = [f"machines: {self.machines}; groups: {self.groups}; templates: {self.templates}"]
        said += [f"cycles: {self.cycles}"] * bool(self.cycles)
        said += [f"changed: {', '.join(self.keys)}"] * bool(self.keys)
        said += [f"after a restart: {', '.join(self.restart)}"] * bool(self.restart)
        return "; ".join(said)


def change_between(before: Roster, after: Roster) -> RosterChange:
    """Return what is different in a new configuration's machines, groups and templates.

    A group that has another place among those that stay has changed: a run that names none is in the first that suits.
    """
    stay = {group.id for group in before.groups} & {group.id for group in after.groups}
    return RosterChange(
        machines=_difference({each.id: each for each in before.machines}, {each.id: each for each in after.machines}),
        groups=_difference(_placed(before.groups, stay), _placed(after.groups, stay)),
        templates=_difference(
            {each.id: each for each in before.templates}, {each.id: each for each in after.templates}
        ),
        cycles=_difference({each.name: each for each in before.cycles}, {each.name: each for each in after.cycles}),
    )


def _placed(groups: Iterable[Group], stay: set[str]) -> dict[str, tuple[Group, int]]:
    """Return the groups by id, with their places among those that stay."""
    found, place = {}, 0
    for group in groups:
        place += group.id in stay
        found[group.id] = group, place
    return found


def _difference(before: Mapping[str, V], after: Mapping[str, V]) -> Difference:
    return Difference(
        added=tuple(name for name in after if name not in before),
        changed=tuple(name for name in after if name in before and after[name] != before[name]),
        gone=tuple(name for name in before if name not in after),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What a reload did.

    Attributes:
        change: What is different now.
        before: What is gone or changed, as it was; for the audit log, without secrets.
        after: What is new or changed, as it is.
    """

    change: RosterChange
    before: Mapping[str, Any]
    after: Mapping[str, Any]


def reloaded(before: Roster, after: Configuration) -> Reloaded:
    """Return what one configuration in place of another means; of keys other than the roster's, only their names."""
    change = replace(change_between(before, after.roster), keys=after.keys, restart=after.restart)
    names = {"keys": list(after.keys), "restart": list(after.restart)}
    return Reloaded(
        change=change,
        before=_told(before, change, lambda each: {*each.changed, *each.gone}),
        after={
            **_told(after.roster, change, lambda each: {*each.changed, *each.added}),
            **{name: keys for name, keys in names.items() if keys},
        },
    )


def _told(roster: Roster, change: RosterChange, wanted: Callable[[Difference], set[str]]) -> dict[str, Any]:
    machines, groups, templates, cycles = map(wanted, (change.machines, change.groups, change.templates, change.cycles))
    told = {
        "machines": {each.id: _machine(each) for each in roster.machines if each.id in machines},
        "groups": {each.id: _group(each, place) for place, each in enumerate(roster.groups, 1) if each.id in groups},
        "templates": {each.id: _template(each) for each in roster.templates if each.id in templates},
        "cycles": {each.name: _cycle(each) for each in roster.cycles if each.name in cycles},
    }
    return {section: things for section, things in told.items() if things}


def _machine(machine: RosterMachine) -> dict[str, Any]:
    known = sorted(f"{each.known_by}:{each.value}" for each in machine.identities)
    driver = machine.driver.text or machine.driver.scheme if machine.driver is not None else ""
    return {"identities": known, "labels": dict(machine.labels), "driver": driver}


def _group(group: Group, place: int) -> dict[str, Any]:
    of_people = {"name": group.name, "description": group.description}
    health = None if group.health is None else {"template": group.health.template, "every": group.health.every}
    limits = {"max_running": group.max_running, "health": health}
    return {"place": place, **of_people, "labels": dict(group.labels), **limits}


def _cycle(plan: CyclePlan) -> dict[str, Any]:
    """Return a cycle without the values of its variables, which may be secrets."""
    return {
        "folder": plan.folder,
        "arguments": list(plan.arguments),
        "schedule": asdict(plan.schedule),
        "group": plan.group,
        "limit": plan.limit,
        "parameters": {each.name: list(each.choices) or each.pattern for each in plan.parameters},
        "environment": sorted(plan.environment),
        "python": plan.python,
        "user": plan.user,
    }


def _template(template: Template) -> dict[str, Any]:
    """Return a template without its payload, which its kind alone can read, and which may hold secrets."""
    workload = template.workload
    payload = hashlib.sha256(repr(sorted(workload.payload.items())).encode()).hexdigest()
    return {
        "group": template.group,
        "workload": workload.name,
        "kind": workload.kind,
        "labels": list(workload.labels),
        "requires": [str(each) for each in workload.requires],
        "expect": workload.expect,
        "limits": dict(workload.limits),
        "requeue": template.requeue,
        "payload": f"sha256:{payload}",
    }
