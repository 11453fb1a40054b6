"""The life of runs in a fake GitHub: gates, queues, attempts, cancels and ends; runners are given by `Assigner`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.testing.actions_state import ENDED, FakeArtifact, FakeAttempt, FakeJob, FakeRun
from pytest_dispatch.testing.actions_workflow import Annotation, Job, filled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_dispatch.testing.actions_assigner import Assigner
    from pytest_dispatch.testing.actions_state import ActionsState, FakeWorkflow
    from pytest_dispatch.testing.timeline import Timeline

    #: Hears of each change that GitHub has a webhook for: event, action, run, job.
    Teller = Callable[[str, str, FakeRun, FakeJob | None], None]

#: Conclusions of jobs, from the one that outweighs all others when a run ends; unknown ones outweigh these.
WEIGHTS = ("cancelled", "failure", "timed_out", "action_required", "stale", "success", "neutral", "skipped")
WITHOUT_JOBS = ("startup_failure", "action_required")


class Engine:
    """Carries runs from their dispatch to their end.

    Args:
        state: Workflows, runs and runners.
        timeline: When what happens.
        assigner: Gives runners to jobs.
        next_id: Returns new ids.
    """

    def __init__(self, state: ActionsState, timeline: Timeline, assigner: Assigner, next_id: Callable[[], int]) -> None:
        self._state = state
        self._timeline = timeline
        self._assigner = assigner
        self._next_id = next_id
        self.tell: Teller = lambda *_: None
        assigner.ended = self.finish
        assigner.began = self._began

    def start(self, workflow: FakeWorkflow, event: str, ref: str, inputs: Mapping[str, str], actor: str) -> FakeRun:
        """Start a run, which appears in the API when GitHub's timing says."""
        now = self._timeline.at
        run = FakeRun(
            id=self._next_id(),
            workflow=workflow,
            number=1 + sum(each.workflow is workflow for each in self._state.runs),
            event=event,
            ref=ref,
            inputs=dict(inputs),
            title=filled(workflow.plan.run_name, inputs) or workflow.plan.name,
            concurrency=filled(workflow.plan.concurrency, inputs),
            actor=actor,
            created=now,
            visible=now + self._state.timing.appears,
        )
        run.attempts.append(FakeAttempt(number=1, actor=actor, started=now, updated=now))
        self._state.runs.append(run)
        self._timeline.after(self._state.timing.appears, lambda: self._begin(run))
        return run

    def clear(self, run: FakeRun) -> None:
        """Approve a run that ended as `action_required`; it begins now."""
        run.cleared = True
        run.attempt.status, run.attempt.conclusion = "queued", None
        self._begin(run)

    def review(self, run: FakeRun, environments: Iterable[str], state: str, comment: str) -> None:
        """Approve or reject environments that jobs of a run wait for."""
        for name in environments:
            run.reviews.append((name, state, comment))
            waiting = [job for job in run.jobs if job.status == "waiting" and job.environment == name]
            if state == "approved":
                run.attempt.approved.add(name)
            for job in waiting:
                if state == "approved":
                    self._queue(job)
                else:
                    self.finish(job, "failure")

    def cancel(self, run: FakeRun, by: str, *, force: bool = False) -> None:
        """Cancel a run; jobs that heed no cancel need force."""
        run.attempt.canceller = by
        attempt = run.attempt
        self._timeline.after(self._state.timing.cancels, lambda: self._end_jobs(run, attempt, force=force))

    def rerun(self, run: FakeRun, by: str, *, failed_only: bool = False) -> None:
        """Begin another attempt, of all jobs or of those that did not succeed."""
        old, now = run.attempt, self._timeline.at
        run.attempts.append(FakeAttempt(number=old.number + 1, actor=by, started=now, updated=now))
        kept = [job for job in old.jobs if failed_only and job.conclusion == "success"]
        self._begin(run, kept=kept)

    def finish(self, job: FakeJob, conclusion: str, annotations: Iterable[Annotation] = ()) -> None:
        """End a job."""
        job.status, job.conclusion, job.ended = ENDED, conclusion, self._timeline.at
        job.annotations += [*job.plan.annotations, *annotations]
        if job.started is not None and conclusion not in ("cancelled", "skipped"):
            self._upload(job)
        self._assigner.free(job)
        self._say(job.run, "completed", job)
        self._release(job.run)
        self._refresh(job.run)
        self._assigner.assign()

    def _begin(self, run: FakeRun, kept: Iterable[FakeJob] = ()) -> None:
        attempt, declared = run.attempt, run.workflow.plan.conclusion
        if run.status == ENDED:  # cancelled before it appeared
            return
        attempt.later = list(run.workflow.plan.jobs)
        self._say(run, "requested")
        if declared in WITHOUT_JOBS and not run.cleared:
            self._end(run, declared)
            return
        if not _startable(run):
            self._end(run, "startup_failure")
            return
        for job in kept:
            self._carry_over(run, job)
        if self._may_run(run):
            self._release(run)
            self._refresh(run)
        self._assigner.assign()

    def _carry_over(self, run: FakeRun, old: FakeJob) -> None:
        """Take a job that succeeded into another attempt, as a new job that has already ended."""
        new = self._job(run, old.plan, old.name)
        new.created, new.started, new.ended, new.runner = old.created, old.started, old.ended, old.runner
        new.status, new.conclusion = ENDED, old.conclusion

    def _may_run(self, run: FakeRun) -> bool:
        """Pass or close the gate of the concurrency group; supersede what GitHub would."""
        for other in sorted(self._rivals(run), key=lambda each: each.status != "pending"):  # else that one would begin
            if other.status == "pending" or run.workflow.plan.cancel_in_progress:
                self._end_jobs(other, other.attempt, force=True, why=_superseded(other))
        if not self._rivals(run):
            return True
        self._set(run, "pending")
        return False

    def _rivals(self, run: FakeRun) -> list[FakeRun]:
        return [
            each
            for each in self._state.runs
            if run.concurrency and each is not run and each.repo is run.repo and each.status != ENDED
            if each.concurrency == run.concurrency and (each.jobs or each.status == "pending")
        ]

    def _release(self, run: FakeRun) -> None:
        """Create the jobs whose needs have ended."""
        attempt = run.attempt
        for plan in list(attempt.later):
            ahead = {each.name for each in attempt.later} | {
                each.plan.name for each in run.jobs if each.status != ENDED
            }
            if plan in attempt.later and not ahead & set(plan.needs):  # a job that was skipped releases others
                attempt.later.remove(plan)
                failed = {each.plan.name for each in run.jobs if each.conclusion not in (None, "success")}
                self._create(run, plan, skipped=bool(failed & set(plan.needs)))

    def _create(self, run: FakeRun, plan: Job, *, skipped: bool) -> None:
        there = {job.name for job in run.jobs}  # carried over
        made = [self._job(run, plan, name) for name in plan.names() if name not in there]
        for job in made:
            if skipped:
                self.finish(job, "skipped")
            elif job.environment and job.environment not in run.attempt.approved:
                job.status = "waiting"
                self._say(run, "waiting", job)
            else:
                self._queue(job)

    def _job(self, run: FakeRun, plan: Job, name: str) -> FakeJob:
        job = FakeJob(
            id=self._next_id(),
            plan=plan,
            name=name,
            run=run,
            attempt=run.attempt.number,
            labels=plan.labels(run.inputs),
            environment=filled(plan.environment, run.inputs),
            created=self._timeline.at,
        )
        run.jobs.append(job)
        return job

    def _queue(self, job: FakeJob) -> None:
        job.status, job.eligible = "queued", self._timeline.at + self._state.timing.assigns
        self._say(job.run, "queued", job)
        self._timeline.after(self._state.timing.assigns, self._assigner.assign)
        self._refresh(job.run)

    def _began(self, job: FakeJob) -> None:
        self._say(job.run, "in_progress", job)
        self._refresh(job.run)

    def _refresh(self, run: FakeRun) -> None:
        """Derive a run's status from its jobs'."""
        states = {job.status for job in run.jobs}
        if run.status == ENDED or not states:
            return
        if states == {ENDED}:
            if not run.attempt.later:
                declared = "" if run.cleared else run.workflow.plan.conclusion
                self._end(run, declared or self._outcome(run))
        elif "waiting" in states and not states & {"queued", "in_progress"}:
            self._set(run, "waiting")
        else:
            self._set(run, "in_progress" if states & {"in_progress", ENDED} else "queued")

    def _outcome(self, run: FakeRun) -> str:
        found = {job.conclusion or "" for job in run.jobs}
        unknown = sorted(found - set(WEIGHTS))
        return unknown[0] if unknown else next(each for each in WEIGHTS if each in found)

    def _set(self, run: FakeRun, status: str) -> None:
        if run.status != status:
            run.attempt.status, run.attempt.updated = status, self._timeline.at
            if status == "in_progress":
                self._say(run, "in_progress")

    def _end(self, run: FakeRun, conclusion: str) -> None:
        run.attempt.conclusion = conclusion
        self._set(run, ENDED)
        self._say(run, "completed")
        waiting = [each for each in self._rivals(run) if each.status == "pending"]
        if waiting and not any(each.status != "pending" for each in self._rivals(run)):
            self._release(waiting[0])
            self._refresh(waiting[0])

    def _end_jobs(self, run: FakeRun, attempt: FakeAttempt, *, force: bool, why: Iterable[Annotation] = ()) -> None:
        """Carry out a cancel."""
        if attempt is not run.attempt or run.status == ENDED:
            return
        attempt.later.clear()
        open_jobs = [each for each in run.jobs if each.status != ENDED]
        for job in sorted(open_jobs, key=lambda each: each.status == "in_progress"):  # none may take a freed runner
            if force or job.plan.heeds_cancel or job.status != "in_progress":
                self.finish(job, "cancelled", why)
        if not open_jobs:
            self._end(run, "cancelled")

    def _upload(self, job: FakeJob) -> None:
        for name, content in job.plan.artifacts.items():
            at = self._timeline.at
            job.run.artifacts.append(FakeArtifact(id=self._next_id(), name=name, content=content, created=at))

    def _say(self, run: FakeRun, action: str, job: FakeJob | None = None) -> None:
        if not run.deleted:
            self.tell("workflow_run" if job is None else "workflow_job", action, run, job)


def _superseded(run: FakeRun) -> list[Annotation]:
    """Return what GitHub remarks on the jobs of a run that a later one of its concurrency group supersedes."""
    return [Annotation(message=f"Canceling since a higher priority waiting request for {run.concurrency} exists")]


def _startable(run: FakeRun) -> bool:
    """Say whether there are jobs whose labels follow from the inputs; a run of others ends before it has jobs."""
    try:
        labels = [plan.labels(run.inputs) for plan in run.workflow.plan.jobs]
    except ValueError:
        return False
    return bool(labels)
