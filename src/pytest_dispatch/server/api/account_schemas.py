"""The types of requests and answers about users, tokens and the audit log."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_dispatch.server.auth.roles import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInRequest:
    """A name and its password."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaysIn:
    """How people can sign in: by name and password always, and by GitHub."""

    github: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WhoView:
    """Who the caller is.

    Attributes:
        name: Name of the user; `lab` for who has the lab's own token.
        groups: The groups to which the token is confined; None for the whole lab.
        signed_in: `lab`, `token ID` or `browser`.
        csrf: What a browser must send in the header `Dispatch-CSRF` with every change; empty for others.
        expires: When the token or the browser's session expires, in seconds since 1970; None for never.
    """

    name: str
    role: Role
    groups: tuple[str, ...] | None = None
    signed_in: str
    csrf: str = ""
    expires: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChange:
    """A new password for the caller; `old` may be empty for a user who has none."""

    new: str = field(repr=False)
    old: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user to add; without a password, a link or tokens let the user in."""

    name: str
    role: Role = Role.READER
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserChange:
    """What to change of a user; None for what stays."""

    role: Role | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserView:
    """A user.

    Attributes:
        source: Where the user is from: `configuration`, `github:ID`, or empty if an administrator added the user.
        password: Whether the user has a password.
        made: When the user was added, in seconds since 1970.
        seen: When the user last signed in; 0 if never.
    """

    name: str
    role: Role
    source: str
    password: bool
    made: float
    seen: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The path of a link that signs a user in once, within an hour."""

    path: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token to make.

    Attributes:
        label: What it is for.
        role: The most that it may do; None for all that its user may.
        groups: The groups to which to confine it; None for the whole lab.
        lasts: Seconds after which it expires; None for never.
        user: Whose it is; empty for the caller. Only an administrator may make tokens for others.
    """

    label: str
    role: Role | None = None
    groups: tuple[str, ...] | None = None
    lasts: float | None = None
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """A token, without its secret.

    Attributes:
        made: When it was made, in seconds since 1970.
        expires: When it expires; None for never.
        used: When it was last used, to the minute; 0 if never.
        revoked: When it was revoked; None if it was not.
    """

    id: str
    user: str
    label: str
    role: Role
    groups: tuple[str, ...] | None
    made: float
    expires: float | None
    used: float
    revoked: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeToken:
    """A new token, with its secret, which is never shown again."""

    secret: str = field(repr=False)
    token: TokenView
