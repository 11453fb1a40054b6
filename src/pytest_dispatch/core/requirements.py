"""What a workload requires of a machine, in labels, and which machine comes closest if none suits.

A label is `key=value`, or a bare `key`. A requirement is one condition on one key, in the syntax of Kubernetes' label
selectors (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors) with `>=` added:

    arch=x86_64          the value is this one
    site in (fra, ams)   the value is one of these
    memory>=64           the value is a number of at least this
    gpu                  the machine has the label, whatever its value
    !broken              the machine does not have the label
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

from pytest_dispatch.core.errors import ConfigError

Labels = Mapping[str, str]

MOST = 64  # most requirements of one workload

_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?"
_VALUE = r"[A-Za-z0-9](?:[A-Za-z0-9._:+-]{0,61}[A-Za-z0-9])?"
_LABEL = re.compile(rf"({_KEY})(?:=({_VALUE})?)?")
_FORMS = (
    "key=value",
    "key in (a, b)",
    "key>=number",
    "key",
    "!key",
)


class Operator(StrEnum):
    """How a requirement is compared with a label."""

    IN = "in"  # also `key=value`: a set of one
    AT_LEAST = ">="
    PRESENT = "present"
    ABSENT = "absent"


_GRAMMAR: tuple[tuple[re.Pattern[str], Operator], ...] = (
    (re.compile(rf"({_KEY})\s*=\s*({_VALUE})"), Operator.IN),
    (re.compile(rf"({_KEY})\s+in\s+\(\s*({_VALUE}(?:\s*,\s*{_VALUE})*)\s*\)"), Operator.IN),
    (re.compile(rf"({_KEY})\s*>=\s*([0-9]{{1,15}}(?:\.[0-9]{{1,15}})?)"), Operator.AT_LEAST),
    (re.compile(rf"({_KEY})()"), Operator.PRESENT),
    (re.compile(rf"!\s*({_KEY})()"), Operator.ABSENT),
)


@dataclass(frozen=True, slots=True, order=True)
class Requirement:
    """One condition on one label.

    Attributes:
        key: The key of the label.
        operator: How its value is compared.
        values: The accepted values, sorted; for `>=` the minimum as it was written; else empty.
    """

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def suits(self, labels: Labels) -> bool:
        """Return whether a machine with these labels fulfils it."""
        value, operator = labels.get(self.key), self.operator
        if operator is Operator.IN:  # first, as most are
            return value in self.values
        if operator is Operator.ABSENT:
            return value is None
        if value is None or operator is Operator.PRESENT:
            return value is not None
        return _number(value) >= float(self.values[0])

    def __str__(self) -> str:
        match self.operator:
            case Operator.ABSENT:
                return f"!{self.key}"
            case Operator.PRESENT:
                return self.key
            case Operator.AT_LEAST:
                return f"{self.key}>={self.values[0]}"
            case Operator.IN if len(self.values) == 1:
                return f"{self.key}={self.values[0]}"
            case _:
                return f"{self.key} in ({', '.join(self.values)})"


Requirements = tuple[Requirement, ...]  # sorted, without duplicates, so that equal requirements compare equal


def read_requirements(texts: Iterable[str], where: str) -> Requirements:
    """Parse requirements.

    Args:
        texts: One requirement each.
        where: Where they come from, for messages; empty if the caller adds it.

    Raises:
        ConfigError: One of them is not a requirement, or there are too many.
    """
    before = f"{where}: " if where else ""
    found = tuple(sorted({_requirement(text, before) for text in texts}))
    if len(found) > MOST:
        raise ConfigError(f"{before}expected at most {MOST} requirements, got {len(found)}")
    return found


def read_labels(texts: Iterable[str], where: str) -> dict[str, str]:
    """Parse a machine's labels: `key=value` or `key`.

    Raises:
        ConfigError: One of them is not a label, or a key has two values.
    """
    labels: dict[str, str] = {}
    for text in texts:
        match = _LABEL.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"{where}: expected a label such as arch=x86_64 or gpu, got {text!r}")
        key, value = match[1], match[2] or ""
        if labels.setdefault(key, value) != value:
            raise ConfigError(f"{where}: expected one value of the label {key}, got {labels[key]!r} and {value!r}")
    return labels


def unmet(requirements: Iterable[Requirement], labels: Labels) -> list[Requirement]:
    """Return those requirements that a machine with these labels does not fulfil."""
    return [requirement for requirement in requirements if not requirement.suits(labels)]


def suits(requirements: Iterable[Requirement], labels: Labels) -> bool:
    """Return whether a machine with these labels fulfils all requirements."""
    for requirement in requirements:  # noqa: SIM110 - asked for each machine and group: quicker than `all`
        if not requirement.suits(labels):
            return False
    return True


def nearest_miss(requirements: Requirements, machines: Mapping[str, Labels]) -> str:
    """Return a text that names the machine closest to the requirements, and what it lacks.

    Args:
        requirements: Requirements that no machine fulfils.
        machines: Labels by the machine's name; among equally close machines the first by name is chosen.
    """
    missing = {name: unmet(requirements, labels) for name, labels in machines.items()}
    if not missing:
        return "there is no machine"
    name = min(sorted(missing), key=lambda each: len(missing[each]))
    return f"the nearest is {name}: {lacks(missing[name], machines[name])}"


def lacks(missing: Iterable[Requirement], labels: Labels) -> str:
    """Return a text about the requirements that a machine with these labels does not fulfil."""
    return ", ".join(_lack(each, labels) for each in missing)


def _lack(requirement: Requirement, labels: Labels) -> str:
    value = labels.get(requirement.key)
    if value is None:
        return f"it has no label {requirement.key}"
    has = f"{requirement.key}={value}" if value else requirement.key
    return f"it has {has}, wanted is {requirement}"


def _requirement(text: str, before: str) -> Requirement:
    for pattern, operator in _GRAMMAR:
        if match := pattern.fullmatch(text.strip()):
            values = sorted({value.strip() for value in match[2].split(",")}) if match[2] else ()
            return Requirement(match[1], operator, tuple(values))
    raise ConfigError(f"{before}expected a requirement such as {', '.join(_FORMS)}, got {text!r}")


def _number(text: str) -> float:
    """Return a label's value as a number, or -1 if it is not a finite number."""
    try:
        number = float(text)
    except ValueError:
        return -1.0
    return number if isfinite(number) else -1.0
