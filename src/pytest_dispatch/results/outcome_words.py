"""Maps the words that test programs use to outcomes."""

from __future__ import annotations

from pytest_dispatch.core.model import Outcome

#: Words in lower case, with spaces for hyphens and underscores. Other words mean no outcome.
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
    """Return the outcome for a word, in any case, or a truth value; None if it means no outcome."""
    words = " ".join(str(said).casefold().replace("-", " ").replace("_", " ").split())
    return _OUTCOMES.get(words)
