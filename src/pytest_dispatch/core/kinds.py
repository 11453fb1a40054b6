"""The rules of a kind of workload, as far as the core needs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.lifecycle import Lifecycle
from pytest_dispatch.core.model import Policy, Run, Workload
from pytest_dispatch.core.plain_text import what_was_raised
from pytest_dispatch.core.requirements import Requirements


def _none(_workload: Workload, _limits: Mapping[str, float]) -> Mapping[str, float]:
    return {}


def _any(_workload: Workload, _readable: Callable[[str], None]) -> None:
    """Take any payload."""


def _nothing(_workload: Workload) -> Requirements:
    return ()


class Shape(StrEnum):
    """How people write a value of a payload."""

    TEXT = "text"
    NUMBER = "number"  # a whole one
    TEXTS = "texts"  # by name: a line `NAME=VALUE` for each
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadField:
    """A value of a payload that people give by hand.

    Attributes:
        name: What the payload calls it.
        hint: An example, or what it is.
        needed: Whether there is none by default.
        choices: Returns its values, if they are few.
        fixed: Whether it stays as it is once a run is queued.
    """

    name: str
    shape: Shape = Shape.TEXT
    hint: str = ""
    needed: bool = False
    choices: Callable[[], Collection[str]] = tuple
    fixed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRules:
    """The rules of one kind.

    Attributes:
        name: The name of the kind.
        lifecycles: Lifecycles of attempts, by the value of `expect`; the first is the default.
        needs: What the lab must have before a run is offered to machines, in words; empty if nothing.
        derived: Computes limits in seconds from a workload, for example from its size, and from its other limits.
        check_payload: Refuses a payload with a ConfigError; is given the workload, and what refuses a location that the
            lab may not read.
        requires: What the payload of a workload requires of a machine, whatever its group; in no way a user writes it.
        by_hand: The values of a payload that people give in a form; empty for those of which only the kind knows more
            than that they are JSON. A run that waits can be given others of them.
    """

    name: str
    lifecycles: Mapping[str, Lifecycle]
    needs: str = ""
    derived: Callable[[Workload, Mapping[str, float]], Mapping[str, float]] = _none
    check_payload: Callable[[Workload, Callable[[str], None]], None] = _any
    requires: Callable[[Workload], Requirements] = _nothing
    by_hand: tuple[PayloadField, ...] = ()

    def __post_init__(self) -> None:
        """Check that the name can be part of a mark's name, and that there is a lifecycle.

        Raises:
            ConfigError: One of them cannot be used.
        """
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise ConfigError(f"kind: expected an identifier in lower case, got {self.name!r}")
        if not self.lifecycles:
            raise ConfigError(f"kind {self.name}: expected a lifecycle at least, got none")

    @property
    def usual(self) -> Lifecycle:
        """Return the default lifecycle."""
        return next(iter(self.lifecycles.values()))

    def check(self, workload: Workload) -> None:
        """Refuse a workload of this kind whose `expect` or limits are unknown to the kind.

        Raises:
            ConfigError: Names what was expected and what came.
        """
        check_expected(workload.name, self.lifecycles, workload.expect, self.name)
        for name in workload.limits:
            if name not in self.usual.limits:
                known = ", ".join(self.usual.limits) or "none"
                raise ConfigError(f"{workload.name}: limits of the kind {self.name}: expected {known}, got {name!r}")

    def check_template(self, workload: Workload, readable: Callable[[str], None]) -> None:
        """Refuse a stored workload of this kind that nobody could run.

        Args:
            workload: The workload.
            readable: Refuses a location that the lab may not read, with a ConfigError.

        Raises:
            ConfigError: Names what was expected and what came.
        """
        self.check(workload)
        with reading(workload):
            self.check_payload(workload, readable)
        self.limits_of(workload, Policy())

    def lifecycle_of(self, run: Run) -> Lifecycle:
        """Return the lifecycle of a run that an earlier lab began.

        Raises:
            ConfigError: The kind's lifecycle has changed since then.
        """
        lifecycle = self.lifecycles.get(run.expect)
        if lifecycle is not None and run.attempt.state in lifecycle.states:
            return lifecycle
        was = f"{run.workload.name}: {run.attempt.state}, expecting {run.expect!r}"
        raise ConfigError(
            f"kind {self.name}: expected a version of it that knows the state of the run, got {was}; resume with the"
            " version that began the session, or run without --dispatch-resume"
        )

    def expected(self, workload: Workload, policy: Policy) -> str:
        """Return the `expect` of this workload: its own, else the session's if the kind knows it, else the default."""
        wanted = (workload.expect or "", policy.expect)
        return next((each for each in wanted if each in self.lifecycles), next(iter(self.lifecycles)))

    def limits_of(self, workload: Workload, policy: Policy) -> dict[str, float]:
        """Return the limits of this workload: its own, else the session's, else the kind's.

        Raises:
            ConfigError: They cannot be derived from its payload.
        """
        usual = self.usual.limits
        said = {name: seconds for name, seconds in {**policy.limits, **workload.limits}.items() if name in usual}
        limits = {**usual, **said}
        try:
            return {**limits, **self.derived(workload, limits)}
        except Exception as error:  # a third-party kind may raise any exception for a payload
            raise unusable(workload, error) from error

    def required_by(self, workload: Workload) -> Requirements:
        """Return what the payload of a workload requires of a machine.

        Raises:
            ConfigError: The kind cannot make use of the payload.
        """
        with reading(workload):
            return self.requires(workload)

    def patience(self, policy: Policy) -> float:
        """Return how many seconds a session lets workloads of this kind wait for a machine that asks the lab for work.

        Return 0 if they wait for no such machine, or for an unlimited time.
        """
        wait = None if self.usual.elsewhere else self.usual.states[self.usual.initial].wait
        limits = {**self.usual.limits, **policy.limits}
        return wait.seconds + sum(limits[name] for name in wait.limits) if wait else 0.0


Kinds = Mapping[str, KindRules]


def unusable(workload: Workload, error: Exception) -> ConfigError:
    """Return the error for a workload whose kind raised an exception about its payload."""
    what = what_was_raised(error)
    return ConfigError(f"{workload.name}: the kind {workload.kind} cannot make use of its payload: {what}")


@contextmanager
def reading(workload: Workload) -> Iterator[None]:
    """Let a workload's kind read its payload.

    Raises:
        ConfigError: The kind refuses it, or cannot make use of it.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # a third-party kind may raise any exception for a payload
        raise unusable(workload, error) from error


def check_expected(where: str, known: Collection[str], expect: object, kind: str) -> None:
    """Refuse a value of `expect` that a kind does not know.

    Args:
        where: Where the value was set, for the message.
        known: The values that the kind knows; the default may be an empty string.
        expect: The value; None for the default.
        kind: The name of the kind.

    Raises:
        ConfigError: Names what was expected and what came.
    """
    if expect is not None and expect not in known:
        named = ", ".join(filter(None, known))
        wanted = f"expect= one of {named}" if named else f"no expect=, which the kind {kind} does not know"
        raise ConfigError(f"{where}: expected {wanted}, got {expect!r}")


def rules_of(kinds: Kinds, kind: str) -> KindRules:
    """Return the rules of a kind.

    Raises:
        ConfigError: The lab does not know the kind.
    """
    if kind not in kinds:
        raise ConfigError(f"kind: expected one of {', '.join(sorted(kinds))}, got {kind!r}")
    return kinds[kind]
