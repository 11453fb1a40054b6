"""`dispatch users`: who may use a lab, and in which role.

These commands ask the API of a running lab and never open the journal. So there is one writer, a removed user is out at
once, and each change is in the audit log under the name of who made it. Nobody can be locked out: whoever may read the
journal can start the lab, and it writes a token with the rights of an administrator into a file that only its owner may
read.
"""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Noun, Verb, argument
from pytest_dispatch.cli.page import Answer, Column, Table, cells, said
from pytest_dispatch.cli.times import ago
from pytest_dispatch.client.account_client import AccountClient
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.server.api.account_schemas import Link, NewUser, UserChange, UserView
from pytest_dispatch.server.auth.roles import Role

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_dispatch.client.operator_client import OperatorClient

ROLES = [str(role) for role in Role]
COLUMNS = (Column("NAME"), Column("ROLE"), Column("SIGNS IN BY"), Column("LAST SEEN"))


def _add(client: OperatorClient, given: Namespace) -> Answer:
    accounts = AccountClient(client.connection)
    password = "" if given.link or given.no_password else _asked_password(given.name)
    user = accounts.add_user(NewUser(name=given.name, role=Role(given.role), password=password))
    answer = said(user, f"{user.name} is a user now, {user.role}")
    if not given.link:
        return answer
    link = _link(client, given)
    return Answer(link.value, (*answer.page, *link.page))


def _list(client: OperatorClient, _given: Namespace) -> Answer:
    users = AccountClient(client.connection).users()
    rows = (cells(user.name, user.role, _way_in(user), ago(user.seen)) for user in users)
    return Answer(users, (Table(COLUMNS, tuple(rows), "no users"),))


def _way_in(user: UserView) -> str:
    if user.source.startswith("github:"):
        return "GitHub"
    return f"password{', configured' if user.source else ''}" if user.password else "link or token"


def _passwd(client: OperatorClient, given: Namespace) -> Answer:
    change = UserChange(password=_asked_password(given.name))
    user = AccountClient(client.connection).change_user(given.name, change)
    return said(user, f"{user.name} has a new password, and is signed out everywhere")


def _role(client: OperatorClient, given: Namespace) -> Answer:
    user = AccountClient(client.connection).change_user(given.name, UserChange(role=Role(given.role)))
    return said(user, f"{user.name} is {user.role} now")


def _remove(client: OperatorClient, given: Namespace) -> Answer:
    AccountClient(client.connection).remove_user(given.name)
    return said(None, f"{given.name} is removed, with all tokens")


def _link(client: OperatorClient, given: Namespace) -> Answer:
    link = AccountClient(client.connection).link(given.name)
    url = client.url + link.path
    return said(link, f"this link signs {given.name} in once, within an hour: {url}")


def _asked_password(name: str) -> str:
    """Return a password that somebody types twice, or the first line of standard input.

    Raises:
        ConfigError: What was typed differs.
    """
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass(f"Password for {name}: ")
    if getpass.getpass("Once more: ") != password:
        raise ConfigError("expected the same password twice, got two different ones; nothing has changed")
    return password


_NAME = argument("name", metavar="NAME", completes="user")
_NEW = (
    argument("name", metavar="NAME"),
    argument("--role", choices=ROLES, default="reader", help="what the user may do (default: %(default)s)"),
    argument("--link", action="store_true", help="no password, but a link that signs the user in once"),
    argument("--no-password", action="store_true", help="no password: for programs, which have tokens"),
)

USERS = Noun(
    "users",
    "show, add, change and remove the users of a lab",
    (
        Verb("list", "show all users", list[UserView], _list),
        Verb(
            "add",
            "add a user; the password is asked for, or read from standard input",
            UserView,
            _add,
            arguments=_NEW,
        ),
        Verb("passwd", "change a user's password", UserView, _passwd, arguments=(_NAME,)),
        Verb(
            "role",
            "change a user's role",
            UserView,
            _role,
            arguments=(_NAME, argument("role", metavar="ROLE", choices=ROLES, help=", ".join(ROLES))),
        ),
        Verb("link", "make a link that signs a user in once", Link, _link, arguments=(_NAME,)),
        Verb("remove", "remove a user, whose tokens and browsers end", None, _remove, arguments=(_NAME,)),
    ),
)
