"""How the programs of this world spell outcomes."""

from __future__ import annotations

from pytest_dispatch.core.model import Outcome

#: In lower case, with spaces for hyphens and underscores. What is not among them tells no outcome.
_SPELLINGS = {
    Outcome.PASSED: ("pass", "passed", "passing", "ok", "success", "successful", "succeeded", "true"),
    Outcome.FAILED: (
        *("fail", "failed", "failing", "failure", "not ok", "ko", "false", "broken", "unsuccessful", "regression"),
        *("crash", "crashed", "timeout", "timed out", "abort", "aborted", "incomplete", "killed"),
    ),
    Outcome.ERROR: ("error", "errored"),
    Outcome.SKIPPED: (
        *("skip", "skipped", "ignore", "ignored", "disabled", "suppressed", "not run", "notrun"),
        *("todo", "xfail", "xfailed", "expected failure"),
    ),
}
_OUTCOMES = {spelling: outcome for outcome, spellings in _SPELLINGS.items() for spelling in spellings}


def outcome_of(said: str | bool) -> Outcome | None:
    """Return the outcome that a word or a truth value stands for, in whatever case; None if it stands for none."""
    words = " ".join(str(said).casefold().replace("-", " ").replace("_", " ").split())
    return _OUTCOMES.get(words)
