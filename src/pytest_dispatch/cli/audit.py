"""`dispatch audit`: who changed what in a lab."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import Noun, Verb, argument
from pytest_dispatch.cli.numbers import number
from pytest_dispatch.cli.page import Answer, Column, Table, cells
from pytest_dispatch.cli.times import moment, read_span
from pytest_dispatch.client.account_client import AccountClient
from pytest_dispatch.core.audit_entry import AuditEntry

if TYPE_CHECKING:
    from argparse import Namespace

    from pytest_dispatch.client.operator_client import OperatorClient

COLUMNS = (*map(Column, ("WHEN", "WHO", "FROM", "WHAT", "TO")), Column("CHANGE", wraps=True))


def _show(client: OperatorClient, given: Namespace) -> Answer:
    wanted = {name: getattr(given, name) for name in ("who", "action", "target") if getattr(given, name)}
    if given.since:
        wanted["since"] = f"{time.time() - read_span(given.since, '--since'):.3f}"
    entries = AccountClient(client.connection).audit({**wanted, "most": str(given.most)})
    rows = (
        cells(moment(each.at), each.who, each.address, each.action, each.target, _change(each.before, each.after))
        for each in reversed(entries)
    )
    return Answer(entries, (Table(COLUMNS, tuple(rows), "nothing was changed"),))


def _change(before: object, after: object) -> str:
    texts = [json.dumps(each, ensure_ascii=False) if each else "" for each in (before, after)]
    return " → ".join(filter(None, texts))


_WHICH = (
    argument("--who", metavar="NAME", completes="user", help="only what this user did"),
    argument("--action", metavar="ACTION", help="only this, such as user.create, or user for all of them"),
    argument("--target", metavar="WHAT", help="only what was done to this user, token, session or run"),
    argument("--since", metavar="DURATION", help="only what was done so long ago at most: 7d, 8h"),
    argument("-n", "--most", type=number(1), default=100, metavar="N", help="how many entries (default: %(default)s)"),
)

AUDIT = Noun("audit", "show who changed what", (Verb("", "", list[AuditEntry], _show, arguments=_WHICH),))
