"""Holds that forms give, and what undoes them: what was free is freed, and what had another hold gets that again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pytest_dispatch.core.health import LAB
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.server.api.group_schemas import HoldWanted
from pytest_dispatch.server.web.deeds import Fields
from pytest_dispatch.server.web.forms import Form


def held(form: Form, _place: int) -> HoldWanted:
    """Return the hold that a form gives."""
    return HoldWanted(reason=form.one("reason"))


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldDeeds:
    """The names of two deeds: the one that holds, and the one that ends a hold.

    Attributes:
        of: What their form names; empty for nothing.
    """

    begin: str
    end: str
    of: str

    def undo(self, names: Sequence[str], before: Collection[Hold | None]) -> Fields | None:
        """Return the fields of the form after which holds are as before; None if no one form does that.

        Args:
            names: What is held.
            before: The holds that they have now, before they are held once more.
        """
        if not any(before):
            return (("do", self.end), *self._named(names))
        return self.again(names, before)

    def again(self, names: Sequence[str], before: Collection[Hold | None]) -> Fields | None:
        """Return the fields of the form that gives all the hold that each has; None if it cannot be given by hand."""
        reasons = {hold.reason if hold is not None and _by_hand(hold) else "" for hold in before}
        reason = reasons.pop() if len(reasons) == 1 else ""
        if not reason:
            return None
        return (("do", self.begin), ("sure", "1"), ("reason", reason), *self._named(names))

    def _named(self, names: Sequence[str]) -> Fields:
        return tuple((self.of, name) for name in names)


def _by_hand(hold: Hold) -> bool:
    """Return whether a form gives such a hold: one without an end, and not the lab's own, which it ends by itself."""
    return hold.until is None and hold.owner != LAB
