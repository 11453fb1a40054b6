"""What of a run people write in forms: each part of it as a text, such as `name`, `payload.ref` or `limits.boot`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.duration import format_duration, parse_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.kinds import PayloadField, Shape
from pytest_dispatch.core.model import Priority
from pytest_dispatch.core.run_options import MOST_REQUEUES

if TYPE_CHECKING:
    from collections.abc import Collection

    from pytest_dispatch.core.model import Run, Workload
    from pytest_dispatch.lab.lab import Lab

PRIORITIES = tuple(each.name.lower() for each in Priority)
ROWS = 4  # lines of a field for several of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a run, as a field of a form.

    Attributes:
        name: As `run_edit.differences` names it.
        label: What people call it.
        text: Its value.
        hint: An example, or what it is.
        choices: Its values, if they are few.
        lines: How many lines it has room for.
        needed: Whether it must have a value.
        fixed: Whether it is only shown.
    """

    name: str
    label: str
    text: str = ""
    hint: str = ""
    choices: tuple[str, ...] = ()
    lines: int = 1
    needed: bool = False
    fixed: bool = False


# What a run, or a new one, has


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What of a run is written in a form.

    Attributes:
        own: What it is, where it waits, how urgent it is.
        payload: The values of its payload.
        limits: Its limits.
    """

    own: tuple[Part, ...]
    payload: tuple[Part, ...]
    limits: tuple[Part, ...]

    @property
    def all(self) -> tuple[Part, ...]:
        """Return all parts."""
        return (*self.own, *self.payload, *self.limits)


def written(lab: Lab, run: Run, groups: Collection[str]) -> Written:
    """Return what of a run that waits can be changed, as it is."""
    given = {**_values(run.workload), "group": run.group, "priority": run.priority}
    given["requeue"] = run.requeue.most if run.requeue is not None else 0
    return _written(lab, run.workload.kind, given, groups, new=False)


def empty(lab: Lab, kind: str, group: str, groups: Collection[str]) -> Written:
    """Return what of a new run can be given.

    Raises:
        ConfigError: The lab does not know the kind.
    """
    return _written(lab, kind, {"group": group, "priority": Priority.NORMAL, "requeue": 0}, groups, new=True)


def _values(workload: Workload) -> dict[str, Any]:
    return {
        "name": workload.name,
        "requires": [*map(str, workload.requires)],
        "labels": [*workload.labels],
        "payload": workload.payload,
        **{f"payload.{name}": value for name, value in workload.payload.items()},
        **{f"limits.{name}": seconds for name, seconds in workload.limits.items()},
    }


def _written(lab: Lab, kind: str, given: Mapping[str, Any], groups: Collection[str], *, new: bool) -> Written:
    fields = lab.queue.by_hand(kind)

    def part(name: str, label: str, **more: Any) -> Part:
        return Part(name=name, label=label, text=shown(fields, name, given.get(name)), **more)

    requires = "one a line, such as arch=x86_64 or memory>=32"
    return Written(
        own=(
            part("name", "Name", needed=True),
            part("group", "Group", choices=tuple(groups), needed=True),
            part("priority", "Priority", choices=PRIORITIES, needed=True),
            part("requeue", "Run it again", hint=f"times, once it is over; at most {MOST_REQUEUES}"),
            part("requires", "Requires", lines=2, hint=requires),
            part("labels", "Labels", lines=2, hint="one a line, for finding it"),
        ),
        payload=tuple(_of_payload(fields, part, new=new)),
        limits=tuple(
            part(f"limits.{name}", name.capitalize(), hint=f"usually {format_duration(seconds)}")
            for name, seconds in lab.queue.limits(kind).items()
            if seconds
        ),
    )


def _of_payload(fields: tuple[PayloadField, ...], part: Callable[..., Part], *, new: bool) -> Iterator[Part]:
    if not fields:
        yield part(
            "payload", "Payload", lines=2 * ROWS, hint='JSON, such as {"key": "value"}', needed=True, fixed=not new
        )
    for each in fields:
        choices = tuple(each.choices())
        yield part(
            f"payload.{each.name}",
            each.name.capitalize(),
            hint=each.hint,
            choices=choices if each.needed or not choices else ("", *choices),
            lines=ROWS if each.shape in {Shape.TEXTS, Shape.JSON} else 1,
            needed=each.needed,
            fixed=each.fixed and not new,
        )


# Texts and values


def shown(fields: tuple[PayloadField, ...], name: str, value: object) -> str:
    """Return the value of a part as the text that people would write; empty for None."""
    if value is None or (name == "requeue" and not value):
        return ""
    if isinstance(value, Priority):
        return value.name.lower()
    if name in {"requires", "labels"} and isinstance(value, list | tuple):
        return "\n".join(map(str, value))
    if name.startswith("limits.") and isinstance(value, int | float):
        return format_duration(value)
    if name.partition(".")[0] == "payload":
        return _payload_text(_shape(fields, name), value)
    return str(value)


def _shape(fields: tuple[PayloadField, ...], name: str) -> Shape:
    key = name.partition(".")[2]
    return next((each.shape for each in fields if each.name == key), Shape.JSON)


def _payload_text(shape: Shape, value: object) -> str:
    if shape is Shape.TEXTS and isinstance(value, Mapping):
        lines = [f"{name}={text}" for name, text in value.items()]
        if not any("\n" in line or "\r" in line for line in lines) and all("=" not in name for name in value):
            return "\n".join(lines)
    if shape in {Shape.TEXT, Shape.NUMBER} and not isinstance(value, Mapping | list):
        return str(value)
    return json.dumps(value, indent=2 if len(json.dumps(value)) > 60 else None, ensure_ascii=False)


def read(fields: tuple[PayloadField, ...], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of parts as people have written them; None where nothing is.

    Raises:
        ConfigError: One cannot be read; names it, what was expected and what came.
    """
    return {name: _read(fields, name, text.replace("\r\n", "\n").strip()) for name, text in texts.items()}


def _read(fields: tuple[PayloadField, ...], name: str, text: str) -> Any:
    if name in {"requires", "labels"}:
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    if name == "priority":
        return _priority(text)
    if name == "requeue":
        return _whole(name, text) if text else 0
    if not text or name in {"name", "group"}:
        return text if name in {"name", "group"} else None
    if name.startswith("limits."):
        try:
            return parse_duration(text)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
    return _payload_value(name, _shape(fields, name), text)


def _priority(text: str) -> Priority:
    if text not in PRIORITIES:
        raise ConfigError(f"priority: expected one of {', '.join(PRIORITIES)}, got {text[:40]!r}")
    return Priority(PRIORITIES.index(text))


def _whole(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ConfigError(f"{name}: expected a whole number, got {text[:40]!r}")
    return int(text)


def _payload_value(name: str, shape: Shape, text: str) -> Any:
    match shape:
        case Shape.TEXT:
            return text
        case Shape.NUMBER:
            return _whole(name, text)
        case Shape.TEXTS if not text.startswith("{"):
            return dict(_pair(name, line) for line in text.split("\n") if line.strip())
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name}: expected JSON, got text that is none: {error}") from None
    if not isinstance(value, dict) and (name == "payload" or shape is Shape.TEXTS):
        raise ConfigError(f'{name}: expected values by name, such as {{"key": "value"}}, got {text[:40]!r}')
    return value


def _pair(name: str, line: str) -> tuple[str, str]:
    key, equals, value = line.partition("=")
    if not key.strip() or not equals:
        raise ConfigError(f"{name}: expected lines NAME=VALUE, got {line[:80]!r}")
    return key.strip(), value
