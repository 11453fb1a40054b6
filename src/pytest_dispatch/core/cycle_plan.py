"""A cycle as the lab's configuration has it: what it runs, when, and what may be chosen.

What a cycle runs stands in the lab's configuration alone. Whoever starts one chooses values of the parameters that it
declares, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_dispatch.core.errors import ConfigError, CycleError
from pytest_dispatch.core.nearest import meant

LONGEST_VALUE = 200  # characters of a parameter
_NAMED = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When rounds begin: one of the three.

    Attributes:
        every: Seconds from the end of a round to the next; 0 if the schedule is another.
        cron: Times of day in the five fields of cron; empty if the schedule is another.
        zone: The time zone of these.
        once: When the only round begins, in seconds since 1970, 0 for at once; None if the schedule is another.
        jitter: Most seconds by which each beginning is put off, at random, so that cycles do not begin together.
    """

    every: float = 0.0
    cron: str = ""
    zone: str = "UTC"
    once: float | None = None
    jitter: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A value that whoever starts a cycle chooses.

    Attributes:
        choices: What it may be; empty if `pattern` says so.
        pattern: Regular expression that a value matches as a whole.
        default: What it is if nobody says anything.
    """

    name: str
    choices: tuple[str, ...] = ()
    pattern: str = ""
    default: str = ""

    def check(self, value: str) -> None:
        """Refuse a value that is not allowed.

        A value that could be taken for an option of pytest, or for a file of options (`@FILE`), is none, unless it is
        among the choices.

        Raises:
            CycleError: It is not.
        """
        if self.choices:
            if value not in self.choices:
                raise CycleError(f"{self.name}: expected {' or '.join(self.choices)}, got {value[:80]!r}")
            return
        if value.startswith(("-", "@")) or not value.isprintable() or len(value) > LONGEST_VALUE:
            raise CycleError(
                f"{self.name}: expected at most {LONGEST_VALUE} printable characters that begin neither with - nor"
                f" with @, got {value[:80]!r}"
            )
        if re.fullmatch(self.pattern, value) is None:
            raise CycleError(f"{self.name}: expected something like {self.pattern}, got {value[:80]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CyclePlan:
    """A cycle as the lab's configuration has it.

    Attributes:
        folder: Where its pytest runs.
        arguments: Those of pytest; `{NAME}` stands for a parameter, `{{` for a brace.
        group: The group in which its runs are; empty if each run chooses by its labels.
        limit: Most seconds that a round takes.
        parameters: What may be chosen.
        environment: Variables that its pytest has. They may be secrets.
        python: The interpreter that runs pytest; empty for the lab's own.
        user: The user of the system as whom it runs; empty for the lab's own.
    """

    name: str
    description: str = ""
    folder: str
    arguments: tuple[str, ...] = ()
    schedule: Schedule
    group: str = ""
    limit: float = 86_400.0
    parameters: tuple[Parameter, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    python: str = ""
    user: str = ""

    def __post_init__(self) -> None:
        """Check that what the arguments name is declared, and that defaults are allowed.

        Raises:
            ConfigError: They cannot be used.
        """
        known = {parameter.name: parameter.default for parameter in self.parameters}
        for argument in self.arguments:
            _filled(argument, known)
        for parameter in self.parameters:
            parameter.check(parameter.default)

    def chosen(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the values of all parameters.

        Raises:
            CycleError: One that is given is not declared, or has a value that is not allowed.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, value in given.items():
            if name not in known:
                raise CycleError(f"cycle {self.name}: no parameter {name[:80]!r}; {meant(name, known)}")
            known[name].check(value)
        return {name: given.get(name, parameter.default) for name, parameter in known.items()}

    def command(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Return the arguments of pytest with the values of the parameters."""
        return tuple(_filled(argument, values) for argument in self.arguments)


def _filled(argument: str, values: Mapping[str, str]) -> str:
    """Return an argument with the values in the places of their names.

    Raises:
        ConfigError: It has a brace that is none of a name, or a name that is not declared.
    """

    def value(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        name = found[1]
        if name not in values:
            raise ConfigError(
                f"arguments: expected {{NAME}} of a declared parameter, or {{{{ for a brace, got {argument[:80]!r};"
                f" declared: {', '.join(values) or 'none'}"
            )
        return values[name]

    return _NAMED.sub(value, argument)
