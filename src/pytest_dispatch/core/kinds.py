"""What the core knows of a kind of workloads: the rules by which it lives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.lifecycle import Lifecycle
from pytest_dispatch.core.model import Policy, Run, Workload
from pytest_dispatch.core.plain_text import what_was_raised


def _none(_workload: Workload, _limits: Mapping[str, float]) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRules:
    """The rules of one kind.

    Attributes:
        name: Of the kind.
        lifecycles: How attempts live, by what makes a workload complete; the first is the usual one.
        needs: What the lab has to have before a run is offered to machines, in words; empty if nothing.
        derived: Limits in seconds that follow from a workload, such as from its size, and from its other limits.
    """

    name: str
    lifecycles: Mapping[str, Lifecycle]
    needs: str = ""
    derived: Callable[[Workload, Mapping[str, float]], Mapping[str, float]] = _none

    def __post_init__(self) -> None:
        """Hold it to what marks and pages need: its name is a part of a mark's.

        Raises:
            ConfigError: It cannot be used.
        """
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise ConfigError(f"kind: expected an identifier in lower case, got {self.name!r}")
        if not self.lifecycles:
            raise ConfigError(f"kind {self.name}: expected a lifecycle at least, got none")

    @property
    def usual(self) -> Lifecycle:
        """Return how attempts live where nothing else is said."""
        return next(iter(self.lifecycles.values()))

    def check(self, workload: Workload) -> None:
        """Refuse a workload of this kind that asks for what the kind does not know.

        Raises:
            ConfigError: Says what was expected, and what came.
        """
        check_expected(workload.name, self.lifecycles, workload.expect, self.name)
        for name in workload.limits:
            if name not in self.usual.limits:
                known = ", ".join(self.usual.limits) or "none"
                raise ConfigError(f"{workload.name}: limits of the kind {self.name}: expected {known}, got {name!r}")

    def lifecycle_of(self, run: Run) -> Lifecycle:
        """Return how a run lives that an earlier lab began.

        Raises:
            ConfigError: Whoever brings the kind has changed it since.
        """
        lifecycle = self.lifecycles.get(run.expect)
        if lifecycle is not None and run.attempt.state in lifecycle.states:
            return lifecycle
        was = f"{run.workload.name}: {run.attempt.state}, expecting {run.expect!r}"
        raise ConfigError(
            f"kind {self.name}: expected a version of it that knows what it was at, got {was}; go on with the version"
            " that began the session, or begin anew without --dispatch-resume"
        )

    def expected(self, workload: Workload, policy: Policy) -> str:
        """Return what makes this workload complete: its own word, the session's if the kind knows it, or the usual."""
        wanted = (workload.expect or "", policy.expect)
        return next((each for each in wanted if each in self.lifecycles), next(iter(self.lifecycles)))

    def limits_of(self, workload: Workload, policy: Policy) -> dict[str, float]:
        """Return the limits of this workload: its own, else the session's, else the kind's.

        Raises:
            ConfigError: They cannot be derived from it.
        """
        usual = self.usual.limits
        said = {name: seconds for name, seconds in {**policy.limits, **workload.limits}.items() if name in usual}
        limits = {**usual, **said}
        try:
            return {**limits, **self.derived(workload, limits)}
        except Exception as error:  # whoever brings the kind may raise anything about a payload
            raise unusable(workload, error) from error

    def patience(self, policy: Policy) -> float:
        """Return how long a session lets workloads of this kind wait for a machine that asks us for work, in seconds.

        0 if they wait for none, or for ever.
        """
        wait = None if self.usual.elsewhere else self.usual.states[self.usual.initial].wait
        limits = {**self.usual.limits, **policy.limits}
        return wait.seconds + sum(limits[name] for name in wait.limits) if wait else 0.0


Kinds = Mapping[str, KindRules]


def unusable(workload: Workload, error: Exception) -> ConfigError:
    """Return what there is to say of a workload about which its kind raised something."""
    what = what_was_raised(error)
    return ConfigError(f"{workload.name}: the kind {workload.kind} cannot make use of its payload: {what}")


def check_expected(where: str, known: Collection[str], expect: object, kind: str) -> None:
    """Refuse an expectation that a kind does not know.

    Args:
        where: Who has it, for the message.
        known: What may make workloads of the kind complete; the usual one may go without a name.
        expect: What is expected; None for the usual.
        kind: Its name.

    Raises:
        ConfigError: Says what was expected, and what came.
    """
    if expect is not None and expect not in known:
        named = ", ".join(filter(None, known))
        wanted = f"expect= one of {named}" if named else f"no expect=, which the kind {kind} does not know"
        raise ConfigError(f"{where}: expected {wanted}, got {expect!r}")


def rules_of(kinds: Kinds, kind: str) -> KindRules:
    """Return the rules of a kind.

    Raises:
        ConfigError: The lab does not know it.
    """
    if kind not in kinds:
        raise ConfigError(f"kind: expected one of {', '.join(sorted(kinds))}, got {kind!r}")
    return kinds[kind]
