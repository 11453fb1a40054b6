"""`dispatch tokens`: by which programs and pytest sessions sign in to a lab."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Noun, Verb, argument
from pytest_dispatch.cli.page import Answer, Cell, Column, Sentence, Table, Tone, cells, said
from pytest_dispatch.cli.times import ago, ahead, read_span
from pytest_dispatch.cli.users import ROLES
from pytest_dispatch.client.account_client import AccountClient
from pytest_dispatch.server.api.account_schemas import MadeToken, NewToken, TokenView
from pytest_dispatch.server.auth.roles import Role

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_dispatch.client.operator_client import OperatorClient

COLUMNS = tuple(map(Column, ("ID", "USER", "ROLE", "GROUPS", "EXPIRES", "LAST USED", "LABEL")))


def _create(client: OperatorClient, given: Namespace) -> Answer:
    wanted = NewToken(
        label=given.label,
        user=given.user,
        role=None if given.role is None else Role(given.role),
        groups=None if given.group is None else tuple(given.group),
        lasts=read_span(given.lasts, "--lasts") if given.lasts else None,
    )
    made = AccountClient(client.connection).make_token(wanted)
    token = made.token
    about = f"token {token.id} of {token.user}, {token.role}, expires {_end(token).text}; it is not shown again"
    return Answer(made, (Sentence(made.secret),), about)


def _list(client: OperatorClient, given: Namespace) -> Answer:
    tokens = AccountClient(client.connection).tokens(everybody=given.all)
    return Answer(tokens, (Table(COLUMNS, tuple(map(_row, tokens)), "no tokens"),))


def _row(token: TokenView) -> tuple[Cell, ...]:
    groups = "all" if token.groups is None else ", ".join(token.groups)
    return cells(token.id, token.user, token.role, groups, _end(token), ago(token.used), token.label)


def _end(token: TokenView) -> Cell:
    if token.revoked is not None:
        return Cell("revoked", Tone.BAD)
    if token.expires is None:
        return Cell("never")
    return Cell(ahead(token.expires)) if token.expires > time.time() else Cell("expired", Tone.BAD)


def _revoke(client: OperatorClient, given: Namespace) -> Answer:
    AccountClient(client.connection).revoke_token(given.id)
    return said(None, f"token {given.id} is revoked")


_NEW = (
    argument("label", metavar="LABEL", help="what it is for"),
    argument("--user", metavar="NAME", default="", completes="user", help="whose it is (default: yours)"),
    argument("--role", choices=ROLES, help="the most that it may do (default: all that its user may)"),
    argument(
        "--group", metavar="GROUP", action="append", completes="group", help="only for this group; may be repeated"
    ),
    argument("--lasts", metavar="DURATION", help="until it expires: 90d, 8h (default: for ever)"),
)

TOKENS = Noun(
    "tokens",
    "show, create and revoke the tokens of programs and pytest sessions",
    (
        Verb(
            "list",
            "show your tokens",
            list[TokenView],
            _list,
            arguments=(argument("--all", action="store_true", help="everybody's"),),
        ),
        Verb("create", "make a token, and show its secret once", MadeToken, _create, arguments=_NEW),
        Verb(
            "revoke",
            "revoke a token",
            None,
            _revoke,
            arguments=(argument("id", metavar="ID", completes="token"),),
        ),
    ),
)
