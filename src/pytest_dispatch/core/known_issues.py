"""Known issues: links of runs to issues, carried over from one failure to the next that is the same.

After openQA, whose bug references are carried over to the next failure of a scenario with the same failing modules.
Here a lane, a series on one class of machines, stands for the scenario, and the failing cases for the modules. A link
ends with a pass, or with a failure that has other failing cases. A fault of the lab says nothing of the workload: it
neither ends the links of a failure nor counts as a pass, and has links of its own.

A failure may be tracked: then one issue is kept for it, which is commented when it comes back and closed after some
passes in a row. It is remembered until then.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pytest_dispatch.core.model import BAD, Attempt, Outcome, Run
from pytest_dispatch.core.requirements import Labels, Operator, Requirement, Requirements
from pytest_dispatch.core.run_series import Series

SERIES_MARKER = "dispatch-series-"  # how markers of failures begin, in the bodies of the issues that are kept for them
BY_LAB = "lab"  # who put a link there if it is to an issue that was filed for the run
MOST_LINKS = 20  # of one run
CASES = 50  # most names of failing cases that are kept; their digest covers all

_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """A series on one class of machines.

    Attributes:
        machines: What the machines of the class have in common; see `machine_class`.
    """

    series: Series
    machines: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueLink:
    """A link of a run to an issue.

    Attributes:
        url: Address of the issue.
        since: When it was put on the first run of the same failures, in seconds since 1970.
        by: The user who put it there; `lab` if the issue was filed for that run.
        carried: Id of the run from which it was carried over; empty if it was put on this run.
    """

    url: str
    since: float
    by: str
    carried: str = ""


class IssueMode(StrEnum):
    """What becomes of a run's reports on GitHub."""

    EACH = "each"  # an issue for each
    UPDATE = "update"  # one issue for each set of failing cases, which later failures comment


class Act(StrEnum):
    """What is to be done to the issue that is kept for a failure."""

    UPDATE = "update"  # the failure is there again: create it, or reopen and comment it
    ADD = "add"  # something more came of a run that failed so: create or comment it
    CLOSE = "close"  # it has passed often enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """What filing a failure does to the issue that is kept for it.

    Attributes:
        marker: The failure's, by which its issue is found.
        url: Address of the issue; empty if it is not known.
        at: When this happened, in seconds since 1970.
    """

    marker: str
    act: Act
    url: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One set of failing cases of a lane.

    Attributes:
        digest: Of the failing cases; see `failing_cases`.
        outcome: Whose fault it is: the workload's (`failed`) or the lab's (`error`).
        cases: Names of failing cases, at most `CASES`; empty if the workload has none.
        run: Id of the latest run that failed so.
        first: When the first run of an unbroken row of these failures ended.
        last: When the latest one did.
        times: Number of failures in the row.
        current: Whether the latest failure of its lane with this outcome is this one, and no pass came after it.
        passes: Number of passes of its lane since.
        links: Links that the next failure of this kind gets.
        repo: Repository in which one issue is kept for it; empty if none is.
        api: Address of the GitHub API for that.
        url: Address of this issue, once it is known.
    """

    lane: Lane
    digest: str
    outcome: Outcome
    cases: tuple[str, ...]
    run: str
    first: float
    last: float
    times: int = 1
    current: bool = True
    passes: int = 0
    links: tuple[IssueLink, ...] = ()
    repo: str = ""
    api: str = ""
    url: str = ""

    @property
    def marker(self) -> str:
        """Return its marker, which every lab makes alike."""
        return marker_of(self.lane, self.digest)

    @property
    def key(self) -> tuple[Lane, str]:
        """Return what identifies it."""
        return self.lane, self.digest


@dataclass(slots=True, eq=False)
class KnownIssues:
    """The failures that are remembered, and the links of runs in memory.

    Attributes:
        changed: Failures that changed since this was last emptied, by key; None for one that is forgotten.
        linked: Links that changed since, by run and address; None for one that was taken away.
    """

    changed: dict[tuple[Lane, str], Failure | None] = field(default_factory=dict)
    linked: dict[tuple[str, str], IssueLink | None] = field(default_factory=dict)
    _lanes: dict[Lane, dict[str, Failure]] = field(default_factory=dict)
    _links: dict[str, tuple[IssueLink, ...]] = field(default_factory=dict)
    _of_run: dict[str, tuple[Lane, str]] = field(default_factory=dict)  # by latest run of a current failure

    def recall(self, failures: Iterable[Failure]) -> None:
        """Take up what an earlier lab knew."""
        for failure in failures:
            self._lanes.setdefault(failure.lane, {})[failure.digest] = failure
            if failure.current:
                self._of_run[failure.run] = failure.key

    def recall_links(self, links: Mapping[str, tuple[IssueLink, ...]]) -> None:
        """Take up the links of runs that are restored."""
        self._links.update((run, found) for run, found in links.items() if run not in self._links)

    def forget(self, runs: Iterable[str]) -> None:
        """Drop the links of runs that leave memory."""
        for run in runs:
            self._links.pop(run, None)

    def links_of(self, run: str) -> tuple[IssueLink, ...]:
        """Return the links of a run."""
        return self._links.get(run, ())

    def failures(self, lane: Lane) -> tuple[Failure, ...]:
        """Return what is remembered of a lane."""
        return tuple(self._lanes.get(lane, {}).values())

    def failure_of(self, run: str) -> Failure | None:
        """Return the failure whose latest run this is, if nothing has ended it since."""
        key = self._of_run.get(run)
        return None if key is None else self._lanes[key[0]][key[1]]

    # What runs do

    def failed(self, run: Run, lane: Lane, at: float) -> Failure:
        """Record a run that failed, give it the links of the same failure before, and return the failure as it is."""
        names = failing_cases(run.attempt)
        digest, outcome = digest_of(run, names), run.outcome or Outcome.ERROR
        known = self._lanes.get(lane, {}).get(digest)
        goes_on = known is not None and known.current
        for other in self.failures(lane):
            if other.digest != digest and other.outcome is outcome:
                self._ended(replace(other, passes=0, current=False))
        carried = self._carry(run.id, known) if known is not None and goes_on else ()
        links = _joined(carried, self._links.get(run.id, ()))
        self._set_links(run.id, links)
        failure = Failure(lane=lane, digest=digest, outcome=outcome, cases=names[:CASES], run=run.id, first=at, last=at)
        if known is not None:
            failure = replace(failure, repo=known.repo, api=known.api, url=known.url)
            failure = replace(failure, first=known.first, times=known.times + 1) if goes_on else failure
        return self._keep(replace(failure, links=_without_source(links)))

    def _carry(self, run: str, known: Failure) -> tuple[IssueLink, ...]:
        return tuple(replace(link, carried=known.run) for link in known.links if known.run != run)

    def passed(self, lane: Lane) -> list[Failure]:
        """Record a pass: all links of the lane end. Return the failures of which issues are kept, as they are."""
        return [
            failure
            for each in self.failures(lane)
            if (failure := self._ended(replace(each, passes=each.passes + 1, current=False)))
        ]

    def _ended(self, failure: Failure) -> Failure | None:
        """Keep a failure that is over if an issue is kept for it, and return it; else forget it."""
        if not failure.current:
            self._of_run.pop(failure.run, None)
            failure = replace(failure, links=())
        if failure.current or failure.repo:
            return self._keep(failure)
        self.drop(failure)
        return None

    def drop(self, failure: Failure) -> None:
        """Forget a failure, whose issue is closed."""
        lane = self._lanes.get(failure.lane, {})
        if lane.pop(failure.digest, None) is not None:
            self.changed[failure.key] = None
        if self._of_run.get(failure.run) == failure.key:
            del self._of_run[failure.run]
        if not lane:
            self._lanes.pop(failure.lane, None)

    def _keep(self, failure: Failure) -> Failure:
        lane = self._lanes.setdefault(failure.lane, {})
        before = lane.get(failure.digest)
        if before is not None and self._of_run.get(before.run) == failure.key:
            del self._of_run[before.run]
        lane[failure.digest] = failure
        self.changed[failure.key] = failure
        if failure.current:
            self._of_run[failure.run] = failure.key
        return failure

    # Issues

    def track(self, failure: Failure, repo: str, api: str) -> Failure:
        """Record that one issue is kept for a failure in a repository."""
        same = (failure.repo, failure.api) == (repo, api)
        return self._keep(replace(failure, repo=repo, api=api, url=failure.url if same else ""))

    def filed(self, run: str, url: str, at: float) -> None:
        """Record that an issue was filed for a run, or that one that is kept for its failure was commented."""
        self._link(run, IssueLink(url=url, since=at, by=BY_LAB), only_first=True)

    def located(self, lane: Lane, digest: str, url: str) -> None:
        """Record where the issue is that is kept for a failure."""
        failure = self._lanes.get(lane, {}).get(digest)
        if failure is not None and failure.repo and failure.url != url:
            self._keep(replace(failure, url=url))

    def url_of(self, lane: Lane, digest: str) -> str:
        """Return the address of the issue that is kept for a failure; empty if it is not known."""
        failure = self._lanes.get(lane, {}).get(digest)
        return "" if failure is None else failure.url

    def link(self, run: str, link: IssueLink) -> None:
        """Put a link on a run, and have it carried over if the run's failure is its lane's latest."""
        self._link(run, link, only_first=False)

    def _link(self, run: str, link: IssueLink, *, only_first: bool) -> None:
        has = self._links.get(run, ())
        self._set_links(run, _joined(has, (link,)))
        failure = self.failure_of(run)
        known = failure is None or any(
            each.url == link.url or (only_first and each.by == BY_LAB) for each in failure.links
        )
        if failure is not None and not known:
            self._keep(replace(failure, links=_joined(failure.links, (link,))))

    def _set_links(self, run: str, links: tuple[IssueLink, ...]) -> None:
        before = self._links.get(run, ())
        self.linked.update({(run, link.url): link for link in links if link not in before})
        if links or before:
            self._links[run] = links

    def unlink(self, run: str, url: str) -> None:
        """Take a link from a run, so that it is not carried over any more either."""
        self._set_links(run, tuple(link for link in self._links.get(run, ()) if link.url != url))
        self.linked[run, url] = None
        failure = self.failure_of(run)
        if failure is not None and any(link.url == url for link in failure.links):
            self._keep(replace(failure, links=tuple(link for link in failure.links if link.url != url)))


def _joined(links: tuple[IssueLink, ...], more: tuple[IssueLink, ...]) -> tuple[IssueLink, ...]:
    """Return links, each once; if there are too many, the first ones."""
    known = {link.url for link in links}
    return (*links, *(link for link in more if link.url not in known))[:MOST_LINKS]


def _without_source(links: tuple[IssueLink, ...]) -> tuple[IssueLink, ...]:
    return tuple(replace(link, carried="") for link in links)


def failing_cases(attempt: Attempt) -> tuple[str, ...]:
    """Return the names of the cases that failed in the reports of an attempt that came in time, sorted, each once."""
    said = (case for report in attempt.reports if not report.late for case in report.cases)
    return tuple(sorted({case.name for case in said if case.outcome in BAD}))


def digest_of(run: Run, names: Iterable[str]) -> str:
    """Return the digest by which failures are the same: of the failing cases, else of what kind of end it was.

    That is the outcome and the reason, without numbers and without the machine's name, which differ from run to run.
    """
    parts = [str(run.outcome), *names]
    if len(parts) == 1:
        parts.append(_kind_of(run.reason or run.attempt.reason, (each.machine for each in run.attempt.placements)))
    text = "\0".join(parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _kind_of(reason: str, machines: Iterable[str]) -> str:
    for machine in machines:
        reason = reason.replace(machine, "MACHINE")
    return _VARYING.sub("#", reason)


def marker_of(lane: Lane, digest: str) -> str:
    """Return the marker of a failure, which every lab makes alike."""
    series = lane.series
    text = "\0".join((series.kind, series.origin, series.name, lane.machines, digest))
    return SERIES_MARKER + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def machine_class(requires: Requirements, labels: Labels | None) -> str:
    """Return what the machines have in common that a run may use: the labels that its requirements name.

    Machines of one class have the same values of these labels; other labels do not count.

    Args:
        requires: What the run requires, with its group's requirements.
        labels: The machine's labels; None if the run reached no machine.
    """
    return ", ".join(dict.fromkeys(_named(each, labels) for each in requires))


def _named(each: Requirement, labels: Labels | None) -> str:
    if labels is None or each.operator is Operator.ABSENT or each.key not in labels:
        return str(each)
    value = labels[each.key]
    return f"{each.key}={value}" if value else each.key


def over(failures: Iterable[Failure], passes: int) -> Iterator[Failure]:
    """Yield the failures whose issue is to be closed, after so many passes in a row; with 0, none ever is."""
    yield from (each for each in failures if each.repo and not each.current and 0 < passes <= each.passes)
