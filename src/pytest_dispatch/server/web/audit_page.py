"""The page Audit: who changed what, from where. The filters are in its address, so a view can be sent on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.moments import DAY, LATEST, dated
from pytest_dispatch.server.api.account_handlers import service_access
from pytest_dispatch.server.api.query import whole
from pytest_dispatch.server.api.routes import all_routes
from pytest_dispatch.server.web.page import Page, page
from pytest_dispatch.store.accounts import AuditFilter

if TYPE_CHECKING:
    from aiohttp import web

    from pytest_dispatch.core.audit_entry import AuditEntry
    from pytest_dispatch.server.api.route import ApiContext

ADDRESS = "/audit"
PAGE = 50  # entries of a page
LONGEST = 120  # characters of a value that are shown
#: Values that are times.
_TIMES = {"expires", "until", "since", "at"}
MOST_VALUES = 8  # values of an entry that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What of the audit log is wanted.

    Attributes:
        since: The first day, as `YYYY-MM-DD` in UTC; empty for all.
        until: The last day.
        before: Below this id; 0 for the newest entries.
    """

    who: str = ""
    action: str = ""
    target: str = ""
    since: str = ""
    until: str = ""
    before: int = 0

    def address(self, **changed: str | int) -> str:
        """Return the address of a view like this one."""
        wanted = replace(self, **{"before": 0, **changed})  # type: ignore[arg-type]
        fields = {name: value for name in self.__slots__ if (value := getattr(wanted, name))}
        return f"{ADDRESS}?{urlencode(fields)}" if fields else ADDRESS

    @property
    def asked(self) -> AuditFilter:
        """Return what the log is asked for: one entry more than is shown.

        Raises:
            ConfigError: A day is none.
        """
        until = _day("until", self.until)
        return AuditFilter(
            who=self.who,
            action=self.action,
            target=self.target,
            since=0.0 if (since := _day("since", self.since)) is None else since.timestamp(),
            until=0.0 if until is None else until.timestamp() + DAY,  # as a date, the last day of all has none after it
            before=self.before,
            most=PAGE + 1,
        )


def _day(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ConfigError(f"{name}: expected a day such as 2026-11-30, got {text[:40]!r}") from None


@page
async def show_audit(context: ApiContext, request: web.Request, _body: None) -> Page:
    """Return the page."""
    words = {name: request.query.get(name, "").strip() for name in ("who", "action", "target", "since", "until")}
    view, problem = View(**words, before=whole(request, "before", 0)), ""
    try:
        entries = await service_access(context).audit.read(view.asked)
    except ConfigError as error:
        entries, problem = [], str(error)
    values = {
        "view": view,
        "problem": problem,
        "entries": [(each, changes(each)) for each in entries[:PAGE]],
        "older": view.address(before=entries[PAGE - 1].id) if len(entries) > PAGE else "",
        "actions": _actions(),
    }
    return Page(
        template="audit.html",
        title="Audit",
        live="" if problem else "hold",
        values=values,
        status=400 if problem else 200,
    )


def _actions() -> list[str]:
    """Return what actions are called, and what their names begin with."""
    actions = {route.audit for route in all_routes() if route.audit}
    return sorted(actions | {each.partition(".")[0] for each in actions} | {"sign-in.refused"})


def changes(entry: AuditEntry) -> list[str]:
    """Return what an entry says has changed, a line for each value."""
    names = [*entry.before, *(name for name in entry.after if name not in entry.before)]
    lines = [
        _line(name, entry.before, entry.after) for name in names if entry.before.get(name) != entry.after.get(name)
    ]
    left = len(lines) - MOST_VALUES
    return [*lines[:MOST_VALUES], f"and {left} more"] if left > 0 else lines


def _line(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    was, now = (_written(name, each[name]) if name in each else "" for each in (before, after))
    return f"{name}: {' → '.join(filter(None, (was, now)))}"


def _written(name: str, value: Any) -> str:
    if name in _TIMES and isinstance(value, int | float) and 0 < value < LATEST:
        return f"{dated(value):%Y-%m-%d %H:%M} UTC"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
