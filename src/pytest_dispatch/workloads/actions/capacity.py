"""Which idle runners are left once each job that waits at GitHub has got one; GitHub chooses, so any that fits goes."""

from __future__ import annotations

from collections.abc import Sequence, Set


def left_over(idle: Sequence[str], demands: Sequence[Set[str]]) -> list[str]:
    """Return the runners each of which may be given away without a job lacking one.

    Args:
        idle: All idle runners.
        demands: For each job that waits, the runners among them that could take it.
    """
    matching = _Matching(demands)
    return [runner for runner in idle if matching.does_without(runner)]


class _Matching:
    """A matching of jobs to runners that serves as many jobs as can be served."""

    def __init__(self, demands: Sequence[Set[str]]) -> None:
        self._demands = demands
        self._job_of: dict[str, int] = {}
        for job in range(len(demands)):
            self._serve(job, set())

    def does_without(self, runner: str) -> bool:
        """Return whether as many jobs can be served without a runner."""
        job = self._job_of.get(runner)
        if job is None:
            return True
        before = dict(self._job_of)
        if self._serve(job, {runner}):
            del self._job_of[runner]  # it is free in this matching, which is as good
            return True
        self._job_of = before
        return False

    def _serve(self, job: int, tried: set[str]) -> bool:
        """Find a runner for a job, if others have to move for that (Kuhn's algorithm)."""
        for runner in sorted(self._demands[job] - tried):
            tried.add(runner)
            other = self._job_of.get(runner)
            if other is None or self._serve(other, tried):
                self._job_of[runner] = job
                return True
        return False
