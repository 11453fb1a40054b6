"""What the core knows of a kind of workloads: the rules by which it lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.lifecycle import Lifecycle
from pytest_dispatch.core.model import Policy, Workload


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

    def expected(self, workload: Workload, policy: Policy) -> str:
        """Return what makes this workload complete: its own word, the session's if the kind knows it, or the usual."""
        wanted = (workload.expect or "", policy.expect)
        return next((each for each in wanted if each in self.lifecycles), next(iter(self.lifecycles)))

    def limits_of(self, workload: Workload, policy: Policy) -> dict[str, float]:
        """Return the limits of this workload: its own, else the session's, else the kind's."""
        usual = next(iter(self.lifecycles.values())).limits
        said = {name: seconds for name, seconds in {**policy.limits, **workload.limits}.items() if name in usual}
        limits = {**usual, **said}
        return {**limits, **self.derived(workload, limits)}

    def patience(self, policy: Policy) -> float:
        """Return how long a session lets workloads of this kind wait for a machine, in seconds; 0 if for ever."""
        usual = next(iter(self.lifecycles.values()))
        wait = usual.states[usual.initial].wait
        return wait.seconds + sum(policy.limits.get(name, usual.limits[name]) for name in wait.limits) if wait else 0.0


Kinds = Mapping[str, KindRules]


def rules_of(kinds: Kinds, kind: str) -> KindRules:
    """Return the rules of a kind.

    Raises:
        ConfigError: The lab does not know it.
    """
    if kind not in kinds:
        raise ConfigError(f"kind: expected one of {', '.join(sorted(kinds))}, got {kind!r}")
    return kinds[kind]
