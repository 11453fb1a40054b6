"""The audit log: who changed what, from where. Secrets never come near it: what changed is told by `shown`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.audit_entry import AuditEntry
from pytest_dispatch.store.accounts import ApiToken, AuditFilter, User, audit_row

if TYPE_CHECKING:
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.server.auth.callers import Caller
    from pytest_dispatch.server.auth.principals import Principal

LONGEST = 200  # characters of a name or target that are kept


class AuditLog:
    """Writes the audit log, and reads it.

    Args:
        lab_state: The lab's.
    """

    def __init__(self, lab_state: LabState) -> None:
        self._lab_state = lab_state

    def note(
        self,
        who: Principal | str,
        caller: Caller,
        action: str,
        target: str,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Write an entry; it is on disk when the lab's next `on_disk` returns.

        Args:
            who: Who did it; a name if nobody had signed in.
            caller: From where.
            action: What was done: `user.create`.
            target: To what.
            before: What changed, as it was; without secrets.
            after: As it is now.
        """
        entry = AuditEntry(
            at=self._lab_state.clock.now(),
            who=who[:LONGEST] if isinstance(who, str) else who.name,
            signed_in="" if isinstance(who, str) else who.signed_in,
            address=caller.address,
            action=action,
            target=target[:LONGEST],
            before=before or {},
            after=after or {},
        )
        self._lab_state.write([audit_row(entry)])

    async def read(self, wanted: AuditFilter) -> list[AuditEntry]:
        """Return the newest entries that fit, the last one first."""
        await self._lab_state.on_disk()
        return await self._lab_state.journal.background.audit_log(wanted)


def shown(thing: User | ApiToken) -> dict[str, Any]:
    """Return a user or a token as the audit log tells of it: without hashes and digests."""
    if isinstance(thing, User):
        return {"role": thing.role, "password": bool(thing.password), "removed": thing.removed is not None}
    groups = None if thing.groups is None else list(thing.groups)
    what = {"user": thing.user, "label": thing.label, "role": thing.role, "groups": groups, "expires": thing.expires}
    return {**what, "revoked": thing.revoked is not None}
