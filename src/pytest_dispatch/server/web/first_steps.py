"""What a lab still lacks before anything can run on it, with the commands that add it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.server.api.account_handlers import service_access
from pytest_dispatch.server.auth.callers import CALLER
from pytest_dispatch.server.auth.principals import PRINCIPAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from pytest_dispatch.server.api.group_schemas import LabMachine
    from pytest_dispatch.server.api.route import ApiContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that a lab needs.

    Attributes:
        done: Whether it has it.
        title: What it is.
        text: What to do.
        code: What to type, or to write into the configuration.
    """

    done: bool
    title: str
    text: str
    code: str


_MACHINE = """\
machines:
  - id: virtual-1
    driver: qemu"""


def first_steps(
    context: ApiContext, request: web.Request, machines: Sequence[LabMachine], *, ran: bool
) -> tuple[Step, ...]:
    """Return what a lab on which nothing has run yet needs; nothing once something has.

    Args:
        context: The lab.
        request: The request of who looks.
        machines: Its machines.
        ran: Whether something has run, or runs.
    """
    if ran:
        return ()
    name, caller = request[PRINCIPAL].name, request[CALLER]
    tokens = service_access(context).accounts.tokens(name)
    return (
        Step(
            done=bool(machines),
            title="A machine",
            text=(
                "Have one boot over UEFI HTTP from this lab's boot URL, which `dispatch serve` prints, or write one"
                " into lab.yaml and reload it: a SIGHUP, `systemctl reload`, or Read the file again on Templates."
            ),
            code=_MACHINE,
        ),
        Step(
            done=any(not token.revoked for token in tokens),
            title="A token",
            text="Programs show it to the lab; its secret is printed once.",
            code=f"dispatch tokens create nightly --user {name}",
        ),
        Step(
            done=False,
            title="A run",
            text="Give pytest the token in DISPATCH_TOKEN, and have it run workloads here.",
            code=f"DISPATCH_TOKEN=dsp_… pytest --dispatch-lab {caller.scheme}://{caller.host} --dispatch-dir FOLDER",
        ),
    )
