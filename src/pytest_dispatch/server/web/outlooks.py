"""What is said of runs before they are queued: whether machines fit, when they should start, what is like them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_roughly
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.requirements import suits
from pytest_dispatch.lab.outlook import outlook
from pytest_dispatch.server.web.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_dispatch.core.machine import Hold
    from pytest_dispatch.core.model import Workload
    from pytest_dispatch.core.outlook import Outlook
    from pytest_dispatch.core.requirements import Requirements
    from pytest_dispatch.lab.lab import Lab


def fitting(lab: Lab, requires: Requirements) -> int:
    """Return the number of the lab's machines that fit, whatever their state."""
    return sum(suits(requires, seen.machine.labels) for seen in lab.queue.machines.values() if not seen.has_left)


def is_impossible(lab: Lab, workload: Workload, group: str) -> bool:
    """Return whether no machine of the lab can ever run a workload in a group, whatever the machines' state."""
    if lab.queue.is_elsewhere(workload):
        return False
    return not fitting(lab, lab.queue.required(workload, group))


def why_impossible(lab: Lab, what: str, workload: Workload, group: str) -> str:
    """Return that no machine can run a workload, of which people speak as `what`."""
    requires = ", ".join(map(str, lab.queue.required(workload, group)))
    needs = f"with {requires}" if requires else "of any kind"
    return f"{what} needs a machine {needs}, and this lab has none."


def kept_back(lab: Lab, groups: Iterable[str]) -> Iterator[str]:
    """Yield which holds keep new runs of groups from beginning: by whom, and why."""
    holds, paused = lab.queue.groups, dict.fromkeys(groups)
    if holds.lab_hold is not None:
        yield _until_resumed("The whole lab is held", holds.lab_hold)
    for group in paused:
        if (hold := holds.pauses.get(group)) is not None:
            yield _until_resumed(f"Group {group} is paused", hold)


def _until_resumed(what: str, hold: Hold) -> str:
    by = f" by {plain_line(hold.owner, 80)}" if hold.owner else ""
    return f"{what}{by} ({plain_line(hold.reason)}): nothing that is queued now begins before that ends."


async def expected(lab: Lab, what: str, workload: Workload, group: str) -> str:
    """Return which machines fit a workload, and when a run of it would start; not if something is `kept_back`."""
    if lab.queue.is_elsewhere(workload):
        return f"{what}: another system assigns its machine."
    requires = lab.queue.required(workload, group)
    found = await outlook(lab.lab_state, lab.durations, "", [(requires, group)])
    starts = "" if any(kept_back(lab, [group])) else f", {_starts(found)}"
    return f"{what}: {_fits(found)}{starts}."


def _fits(found: Outlook) -> str:
    held = f" ({found.held} held)" if found.held else ""
    return f"{counted(found.machines, 'machine')} {'fits' if found.machines == 1 else 'fit'}{held}"


def _starts(found: Outlook) -> str:
    if found.machines == found.held:
        return "none of which can be used now"
    if found.starts_in is None:
        return "nobody knows when it starts"
    return f"starts in about {format_roughly(found.starts_in)}" if found.starts_in >= 1 else "starts at once"
