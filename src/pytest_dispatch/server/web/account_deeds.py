"""What the pages of accounts do: operations of the API on users, tokens and passwords.

A new token or link is shown to who has made it, once; everything else is told on the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.moments import DAY, LONGEST
from pytest_dispatch.server.api.account_handlers import removable, revocable, service_access
from pytest_dispatch.server.api.account_schemas import NewToken, NewUser, PasswordChange, UserChange
from pytest_dispatch.server.api.guard import carry_out, check_may
from pytest_dispatch.server.auth.callers import CALLER
from pytest_dispatch.server.auth.principals import PRINCIPAL
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.web.forms import FORM, Form
from pytest_dispatch.server.web.operations import operation
from pytest_dispatch.server.web.questions import ask
from pytest_dispatch.server.web.said import Question, Said, Undo, told, unsaid
from pytest_dispatch.server.web.secrets_shown import Secret, shown_once
from pytest_dispatch.server.web.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from pytest_dispatch.server.api.route import ApiContext

USERS, ACCOUNT = "/users", "/account"

#: How long a token may last, in days, as the pages offer it; empty for ever.
LASTS = {"1": "a day", "30": "30 days", "90": "90 days", "365": "a year", "": "no end"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Something that is done with an account.

    Attributes:
        operation: Method and path of the operation of the API.
        names: The fields of the form that the operation's path names.
        body: Returns what it takes.
        said: Returns what has happened then, from the request, the form, and what the operation gives.
        check: Refuses what the operation would refuse, before anything is asked; the request names what it is about.
        question: Returns what is to be asked first.
        undo: Returns the fields of the form that undoes it, as things stand before; None if nothing does.
    """

    operation: tuple[str, str]
    names: tuple[str, ...] = ()
    body: Callable[[Form], object] = lambda _form: None
    said: Callable[[web.Request, Form, Any], str | Secret]
    check: Callable[[ApiContext, web.Request], object] = lambda _context, _request: None
    question: Callable[[ApiContext, Form], Question] | None = None
    undo: Callable[[ApiContext, Form], tuple[tuple[str, str], ...] | None] = lambda _context, _form: None


# What operations take


def _role(form: Form) -> Role | None:
    given = form.one("role")
    if given and given not in set(map(str, Role)):
        raise ConfigError(f"role: expected one of {', '.join(Role)}, got {given[:40]!r}")
    return Role(given) if given else None


def _new_user(form: Form) -> NewUser:
    return NewUser(name=form.one("user").strip(), role=_role(form) or Role.READER, password=form.one("password"))


def _new_role(form: Form) -> UserChange:
    return UserChange(role=_role(form))


def _new_token(form: Form) -> NewToken:
    groups = tuple(each.strip() for each in form.one("groups").split(",") if each.strip())
    return NewToken(
        label=form.one("label").strip(),
        role=_role(form),
        groups=groups or None,
        lasts=_seconds(form.one("days")),
        user=form.one("user"),
    )


def _seconds(days: str) -> float | None:
    if not days:
        return None
    try:
        seconds = float(days) * DAY
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST:
        raise ConfigError(f"days: expected a number of days, at most {LONGEST / DAY:.0f}, got {days[:40]!r}")
    return seconds


# What is asked, said and undone


def _remove_question(context: ApiContext, form: Form) -> Question:
    name = form.one("user")
    tokens = sum(each.revoked is None for each in service_access(context).accounts.tokens(name))
    text = f"{counted(tokens, 'token')} will be revoked, and all browsers of {name} signed out. This cannot be undone."
    return Question(ask=f"Remove {name}?", text=text, label=f"Remove {name}")


def _revoke_question(context: ApiContext, form: Form) -> Question:
    token = service_access(context).accounts.token(form.one("token"))
    text = f"{token.label}, of {token.user}. Whatever uses it is refused from then on. This cannot be undone."
    return Question(ask=f"Revoke the token {token.id}?", text=text, label="Revoke it")


def _role_before(context: ApiContext, form: Form) -> tuple[tuple[str, str], ...] | None:
    user = service_access(context).accounts.find(form.one("user"))
    return None if user is None else (("do", "role"), ("user", user.name), ("role", user.role))


def _made_token(_request: web.Request, _form: Form, made: Any) -> Secret:
    text = f"The token {made.token.id} ({made.token.label}) of {made.token.user}. It is shown only now: copy it."
    return Secret(said=text, secret=made.secret)


def _made_link(request: web.Request, form: Form, link: Any) -> Secret:
    caller, name = request[CALLER], form.one("user")
    text = f"This link signs {name} in once, within an hour. It is shown only now: copy it."
    return Secret(said=text, secret=f"{caller.scheme}://{caller.host}{link.path}")


_TOKEN = Deed(operation=("POST", "/tokens"), body=_new_token, said=_made_token)
_REVOKE = Deed(
    operation=("DELETE", "/tokens/{token}"),
    names=("token",),
    said=lambda _request, form, _given: f"{form.one('token')}: revoked.",
    check=revocable,
    question=_revoke_question,
)

#: What an administrator does with the accounts of all.
OF_ALL = {
    "add": Deed(
        operation=("POST", "/users"),
        body=_new_user,
        said=lambda _request, _form, user: f"{user.name}: added, as {user.role}.",
    ),
    "role": Deed(
        operation=("PUT", "/users/{user}"),
        names=("user",),
        body=_new_role,
        said=lambda _request, _form, user: f"{user.name}: now {user.role}.",
        undo=_role_before,
    ),
    "remove": Deed(
        operation=("DELETE", "/users/{user}"),
        names=("user",),
        said=lambda _request, form, _given: f"{form.one('user')}: removed.",
        check=removable,
        question=_remove_question,
    ),
    "link": Deed(operation=("POST", "/users/{user}/link"), names=("user",), said=_made_link),
    "token": _TOKEN,
    "revoke": _REVOKE,
}

#: What everybody does with their own.
OF_ONE = {
    "token": _TOKEN,
    "revoke": _REVOKE,
    "password": Deed(
        operation=("PUT", "/me/password"),
        body=lambda form: PasswordChange(new=form.one("new"), old=form.one("old")),
        said=lambda _request, _form, _given: "Your password is changed, and your other browsers are signed out.",
    ),
}


async def change_accounts(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Do what an administrator asks for on the page of all accounts."""
    return await _act(context, request, USERS, OF_ALL)


async def change_own_account(context: ApiContext, request: web.Request, _body: None) -> web.Response:
    """Do what somebody asks for on the page of their own account."""
    return await _act(context, request, ACCOUNT, OF_ONE)


async def _act(context: ApiContext, request: web.Request, action: str, deeds: Mapping[str, Deed]) -> web.Response:
    form = request[FORM]
    name = form.one("do")
    if name not in deeds:
        raise ConfigError(f"do: expected one of {', '.join(deeds)}, got {name[:40]!r}")
    deed = deeds[name]
    route, where = operation(*deed.operation), {each: form.one(each) for each in deed.names}
    await check_may(context, route, request, where)
    deed.check(context, request)
    if deed.question is not None and not form.one("sure"):
        return ask(context, request, deed.question(context, form), action, unsaid(form.fields))
    undo = deed.undo(context, form)
    given = await carry_out(context, route, request, where, deed.body(form))
    said = deed.said(request, form, given)
    if isinstance(said, Secret):
        return shown_once(context, request, said)
    return told(request, Said(said=said, undo=None if undo is None else Undo(action=action, fields=undo)))


def may_change_own(request: web.Request) -> bool:
    """Return whether who asks has an account here: the lab's own token is nobody's."""
    return bool(request[PRINCIPAL].key)
