"""What people did with a run, for its page: from the audit log, without addresses and ways of signing in.

Who holds a run, who writes a note and who overrides an outcome stands on its page for every reader, so who cancelled
or moved it does too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.model import Priority
from pytest_dispatch.core.moments import DAY
from pytest_dispatch.server.api.account_handlers import service_access
from pytest_dispatch.store.accounts import MOST_ENTRIES, AuditFilter

if TYPE_CHECKING:
    from pytest_dispatch.core.audit_entry import AuditEntry
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.server.api.route import ApiContext

MOST = 50  # deeds that are shown, the latest
AFTERWARDS = 7 * DAY  # seconds after the end of a run in which deeds are looked for

#: What each action of the audit log is in words; what stands on the page anyway, such as notes, is left out.
_WORDS = {
    "run.submit": "",
    "run.queue": "",
    "run.note": "",
    "run.issues": "",
    "run.cancel": "cancelled it",
    "run.move": "moved it in the queue",
    "run.hold": "held it",
    "run.release": "ended its hold",
    "run.change": "changed how it waits",
    "run.again": "queued it again",
    "run.override": "had it count otherwise",
    "run.withdraw-override": "had it count as it ended",
    "run.verdict": "judged it",
    "run.delete-note": "deleted a note",
    "run.link": "linked an issue",
    "run.unlink": "took a link to an issue away",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonsDeed:
    """What somebody did.

    Attributes:
        what: In words: `held it`.
        more: The reason, or what it is now; empty if nothing is known.
        run: The run that came of it; empty for none.
    """

    at: float
    who: str
    what: str
    more: str = ""
    run: str = ""


async def deeds_of(context: ApiContext, run: Run) -> list[PersonsDeed]:
    """Return what people did with a run, the first of it first, until a week after its end."""
    began = run.attempts[0].history[0].at
    until = context.lab.lab_state.clock.now() + 1 if run.outcome is None else run.attempt.since + AFTERWARDS
    wanted = AuditFilter(target=run.id, action="run", since=began, until=until, most=min(MOST, MOST_ENTRIES))
    entries = await service_access(context).audit.read(wanted)
    return [found for entry in reversed(entries) if (found := _deed(entry)) is not None]


def _deed(entry: AuditEntry) -> PersonsDeed | None:
    what = _WORDS.get(entry.action, entry.action)
    if not what:
        return None
    again = entry.after.get("run", "") if entry.action == "run.again" else ""
    return PersonsDeed(at=entry.at, who=entry.who, what=what, more=_more(entry.after), run=str(again))


def _more(after: Mapping[str, Any]) -> str:
    """Return what is known of a deed: an outcome, a reason, a priority, or how often it is queued again."""
    told = [str(after[name]) for name in ("outcome", "reason") if after.get(name)]
    if isinstance(number := after.get("priority"), int) and number in set(Priority):
        told.append(f"priority {Priority(number).name.lower()}")
    if "requeue" in after:
        told.append(f"queued again {after['requeue']} times")
    return ": ".join(told)
