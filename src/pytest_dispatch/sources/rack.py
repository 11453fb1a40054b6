"""Lists the machines of a rack: those that MAAS has under a tag, and that Testflinger has agents for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_dispatch.core.errors import SourceError
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.maas.api import MaasApi
from pytest_dispatch.sources.base import EmptySourceError, Listing
from pytest_dispatch.support.service_client import ServiceError
from pytest_dispatch.testflinger.api import TestflingerApi

if TYPE_CHECKING:
    from pytest_dispatch.maas.api import MaasKey, MaasMachine
    from pytest_dispatch.testflinger.api import Account
    from pytest_dispatch.testflinger.shapes import Agent

T = TypeVar("T")

#: The job of each machine, if nobody says another one; `{machine}` stands for its name.
JOB: Mapping[str, Any] = {
    "job_queue": "{machine}",
    "provision_data": {"distro": "noble"},
    "reserve_data": {"timeout": 120},
}
ANYWHERE = "*"

_NO_AGENT = "MAAS has it, and Testflinger has no agent of that name"
_SEVERAL = "MAAS has {} machines of that name under the tag, in several domains, and agents are found by their names"
_NO_MACHINE = "Testflinger has an agent of that name there, and MAAS has no such machine under the tag"
#: What to ask oneself when a server answers with a status.
_MAAS_ADVICE = {401: "is MAAS_API_KEY the key that MAAS shows?", 404: "does the address of MAAS end in /MAAS?"}
_TESTFLINGER_ADVICE = {401: "is the client's secret right?", 404: "is it Testflinger's address, without /v1?"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rack:
    """A rack, and how its machines are deployed.

    Attributes:
        name: The tag of its machines in MAAS.
        maas_url: Address of MAAS.
        maas_key: Its API key.
        testflinger_url: Address of Testflinger.
        account: Who asks Testflinger; None for anybody.
        location: A shell pattern for the locations of agents.
        job: The job of each machine; `{machine}` stands for its name.
        more: Further parts of the payload: `streak_limit`, `first_look`, `busy`.
    """

    name: str
    maas_url: str
    maas_key: MaasKey
    testflinger_url: str
    account: Account | None = None
    location: str = ANYWHERE
    job: Mapping[str, Any] = field(default_factory=lambda: JOB)
    more: Mapping[str, Any] = field(default_factory=dict)


def list_rack(rack: Rack) -> Listing:
    """List the machines of a rack that both know.

    Raises:
        SourceError: MAAS or Testflinger does not answer, or refuses; says which, and what came.
        EmptySourceError: No machine is known to both.
    """
    machines, agents = asyncio.run(_asked(rack))
    by_name = {agent.name: agent for agent in agents}
    counted = Counter(machine.hostname for machine in machines)
    several = {name: count for name, count in counted.items() if count > 1}
    known = {machine.hostname: machine for machine in machines if machine.hostname not in several}
    left_out = [(name, _SEVERAL.format(count)) for name, count in several.items()]
    left_out += [
        (name, _why_not(by_name.get(name), rack.location)) for name in known if name not in _both(rack, known, by_name)
    ]
    if rack.location != ANYWHERE:
        there = (agent for agent in agents if _is_at(agent, rack.location))
        left_out += [(agent.name, _NO_MACHINE) for agent in there if agent.name not in counted]
    workloads = [_workload(rack, known[name]) for name in _both(rack, known, by_name)]
    if not workloads:
        raise EmptySourceError(_empty(rack, machines, agents))
    return Listing(name=rack.name, workloads=tuple(workloads), left_out=tuple(sorted(left_out)))


async def _asked(rack: Rack) -> tuple[list[MaasMachine], list[Agent]]:
    maas = MaasApi(rack.maas_url, rack.maas_key)
    testflinger = TestflingerApi(rack.testflinger_url, rack.account)
    try:
        machines = await _advised(rack, maas.machines(rack.name), _MAAS_ADVICE)
        return machines, await _advised(rack, testflinger.agents(), _TESTFLINGER_ADVICE)
    finally:
        await asyncio.gather(maas.aclose(), testflinger.aclose())


async def _advised(rack: Rack, asked: Awaitable[T], advice: Mapping[int, str]) -> T:
    try:
        return await asked
    except ServiceError as error:
        ask = f"; {advice[error.status]}" if error.status in advice else ""
        raise SourceError(f"the rack {rack.name} cannot be listed: {error}{ask}") from None


def _both(rack: Rack, known: Mapping[str, MaasMachine], agents: Mapping[str, Agent]) -> list[str]:
    return sorted(name for name in known if name in agents and _is_at(agents[name], rack.location))


def _is_at(agent: Agent, location: str) -> bool:
    return fnmatchcase(agent.location or "", location)


def _why_not(agent: Agent | None, location: str) -> str:
    if agent is None:
        return _NO_AGENT
    return f"its agent is at {plain_line(agent.location or 'no location', 80)!r}, expected {location!r}"


def _empty(rack: Rack, machines: Collection[MaasMachine], agents: Collection[Agent]) -> str:
    place = "" if rack.location == ANYWHERE else f" at {rack.location!r}"
    names = {machine.hostname for machine in machines}
    places = sorted({agent.location or "no location" for agent in agents if agent.name in names})
    if places:
        found = f"agents of the same name at {plain_line(', '.join(places), 99)} alone; is the location the right one?"
    else:
        agent = "agent" if len(agents) == 1 else "agents"
        found = f"{len(agents)} {agent}, none of the same name; is the tag the right one?"
    return (
        f"{rack.name}: expected machines that MAAS and Testflinger both know{place}, got none: MAAS has {len(machines)}"
        f" under that tag, and Testflinger has {found}"
    )


def _workload(rack: Rack, machine: MaasMachine) -> Workload:
    payload = {"agent": machine.hostname, "job": filled(rack.job, machine.hostname), **rack.more}
    return Workload(name=machine.hostname, kind="deployment", payload=payload, labels=machine.labels)


def filled(value: Any, machine: str) -> Any:
    """Return a part of a job with the name of its machine in place of `{machine}`."""
    if isinstance(value, str):
        return value.replace("{machine}", machine)
    if isinstance(value, Mapping):
        return {filled(key, machine): filled(each, machine) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [filled(each, machine) for each in value]
    return value
