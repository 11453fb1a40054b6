"""Users, API tokens, browser sessions and the audit log: their records, and their rows in the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pytest_dispatch.core.audit_entry import AuditEntry
from pytest_dispatch.store import schema
from pytest_dispatch.store.column_text import as_json, restored, stored
from pytest_dispatch.store.row_writing import Row
from pytest_dispatch.support.codec import decode

MOST_ENTRIES = 1000  # of the audit log in one answer


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person or a program that may use the lab.

    Attributes:
        name: Who comes from GitHub has a name that ends in `@github`.
        role: `reader`, `operator` or `admin`.
        password: Hash of the password; empty if there is none.
        subject: Number of the GitHub account; empty for others.
        made: When the user was made, in seconds since 1970.
        seen: When the user last signed in; 0 if never.
        removed: When the user was removed; None if the user is still there.
    """

    name: str
    role: str
    password: str = field(default="", repr=False)
    subject: str = ""
    made: float = 0.0
    seen: float = 0.0
    removed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A token for the API.

    Attributes:
        id: By which people name it.
        digest: SHA-256 of the secret.
        user: The user to whom it belongs.
        label: What it is for, in the user's words.
        role: The most that it may do.
        groups: The groups to which it is confined; None for the whole lab.
        expires: When it expires; None for never.
        used: When it was last used, to the minute; 0 if never.
        revoked: When it was revoked; None if it was not.
    """

    id: str
    digest: str = field(repr=False)
    user: str
    label: str
    role: str
    groups: tuple[str, ...] | None = None
    made: float = 0.0
    expires: float | None = None
    used: float = 0.0
    revoked: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserSession:
    """A browser that is signed in.

    Attributes:
        digest: SHA-256 of the secret in its cookie.
        user: Who signed in.
        address: From where.
        ended: When it was ended before it expired; None if it was not.
    """

    digest: str = field(repr=False)
    user: str
    address: str
    made: float
    expires: float
    ended: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAccounts:
    """All users, with their tokens and browsers."""

    users: Sequence[User] = ()
    tokens: Sequence[ApiToken] = ()
    browser_sessions: Sequence[BrowserSession] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries of the audit log are wanted.

    Attributes:
        who: Of this user; empty for all.
        action: This action, or all that begin with it and a dot; empty for all.
        target: About this; empty for all.
        since: At this time or later.
        until: Before this time.
        before: With a lower id, to go on where the last answer ended; 0 for the newest.
        most: How many.
    """

    who: str = ""
    action: str = ""
    target: str = ""
    since: float = 0.0
    until: float = 0.0
    before: int = 0
    most: int = 100


# Writing


def user_row(user: User) -> Row:
    """Return the row of a user."""
    return schema.users, {
        "name": user.name,
        "role": user.role,
        "password": user.password,
        "subject": user.subject,
        "made": user.made,
        "seen": user.seen,
        "removed": user.removed,
    }


def api_token_row(token: ApiToken) -> Row:
    """Return the row of a token."""
    return schema.api_tokens, {
        "id": token.id,
        "digest": token.digest,
        "user_name": token.user,
        "label": stored(token.label),
        "role": token.role,
        "groups": None if token.groups is None else as_json(token.groups),
        "made": token.made,
        "expires": token.expires,
        "used": token.used,
        "revoked": token.revoked,
    }


def browser_session_row(session: BrowserSession) -> Row:
    """Return the row of a browser that is signed in."""
    return schema.browser_sessions, {
        "digest": session.digest,
        "user_name": session.user,
        "address": session.address,
        "made": session.made,
        "expires": session.expires,
        "ended": session.ended,
    }


def audit_row(entry: AuditEntry) -> Row:
    """Return the row of an entry, which gets its id from the database."""
    return schema.audit, {
        "at": entry.at,
        "who": stored(entry.who),
        "signed_in": entry.signed_in,
        "address": entry.address,
        "action": entry.action,
        "target": stored(entry.target),
        "before": as_json(entry.before),
        "after": as_json(entry.after),
    }


# Reading


def user_of(row: Mapping[Any, Any]) -> User:
    """Return the user of a row."""
    return User(
        name=row["name"],
        role=row["role"],
        password=row["password"],
        subject=row["subject"],
        made=row["made"],
        seen=row["seen"],
        removed=row["removed"],
    )


def api_token_of(row: Mapping[Any, Any]) -> ApiToken:
    """Return the token of a row.

    Raises:
        ValueError: Its groups cannot be read.
    """
    return ApiToken(
        id=row["id"],
        digest=row["digest"],
        user=row["user_name"],
        label=restored(row["label"]),
        role=row["role"],
        groups=None if row["groups"] is None else decode(row["groups"], tuple[str, ...]),
        made=row["made"],
        expires=row["expires"],
        used=row["used"],
        revoked=row["revoked"],
    )


def browser_session_of(row: Mapping[Any, Any]) -> BrowserSession:
    """Return the browser session of a row."""
    return BrowserSession(
        digest=row["digest"],
        user=row["user_name"],
        address=row["address"],
        made=row["made"],
        expires=row["expires"],
        ended=row["ended"],
    )


def audit_entry_of(row: Mapping[Any, Any]) -> AuditEntry:
    """Return the entry of a row."""
    return AuditEntry(
        id=row["id"],
        at=row["at"],
        who=restored(row["who"]),
        signed_in=row["signed_in"],
        address=row["address"],
        action=row["action"],
        target=restored(row["target"]),
        before=decode(row["before"], dict[str, Any]),
        after=decode(row["after"], dict[str, Any]),
    )


def audit_query(wanted: AuditFilter) -> sa.Select[Any]:
    """Return the query for entries of the audit log."""
    own = schema.audit.c
    query = sa.select(schema.audit)
    alike = ((own.who, stored(wanted.who)), (own.target, stored(wanted.target)))
    query = query.where(*(column == text for column, text in alike if text))
    if wanted.action:
        below = own.action.startswith(f"{wanted.action}.", autoescape=True)
        query = query.where(sa.or_(own.action == wanted.action, below))
    if wanted.since:
        query = query.where(own.at >= wanted.since)
    if wanted.until:
        query = query.where(own.at < wanted.until)
    if wanted.before:
        query = query.where(own.id < wanted.before)
    return query.order_by(own.id.desc()).limit(min(wanted.most, MOST_ENTRIES))
