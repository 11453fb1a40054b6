"""The boot path: identifies which machine asks, checks permissions, and hands requests to handlers."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from aiohttp import web

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import DispatchError
from pytest_dispatch.core.machine import Identity
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.core.plain_text import what_was_raised
from pytest_dispatch.lab.boot_tokens import BootIdentity, UsedError
from pytest_dispatch.lab.notice_board import REFUSED
from pytest_dispatch.server.boot import beacon, firmware
from pytest_dispatch.server.limits.bounds import ServerLimits
from pytest_dispatch.server.limits.concurrency import KeyedLimiter
from pytest_dispatch.server.limits.non_firmware import LOOK, browsers_mark, tool_of
from pytest_dispatch.server.limits.rate_limit import RateLimiter
from pytest_dispatch.workloads.boot.service import BootService

if TYPE_CHECKING:
    from pytest_dispatch.lab.lab import Lab

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MachineHandler = Callable[[web.Request, BootService, BootIdentity], Awaitable[web.StreamResponse]]

#: The methods allowed on the boot path, with their handlers.
METHODS: dict[str, MachineHandler] = {
    "GET": firmware.get,
    "POST": beacon.post,
    "HEAD": firmware.head,
    "PUT": beacon.put,
}
#: Statuses that refuse a machine's request, and those shown as a notice. Most refusals of a PUT are noted in its run.
_REFUSED = frozenset({400, 403, 404, 405, 408, 413, 417, 429})
_TOLD = {"PUT": _REFUSED - {400, 408, 413}}

#: The methods allowed on the path that only shows the lab's state.
LOOKS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen, and for which machines.

    Attributes:
        host: An address, or a name of this computer.
        port: 0 picks a free one.
        path: Path of the boot URL, with its leading slash.
        allow: Networks whose machines may boot and report; None allows all. Machines with a token always may.
        tools: Tools of `not_firmware.TOOLS` that machines boot with here.
        announce: Whether to announce the lab over mDNS.
    """

    host: str
    port: int
    path: str = "/dispatch"
    allow: tuple[Network, ...] | None = None
    tools: frozenset[str] = frozenset()
    announce: bool = True


class BootPath:
    """Answers requests of machines and of their workloads on the boot path.

    Args:
        lab: The lab that answers requests.
        address: The path, and which machines may use it.
        bounds: Limits for callers.
    """

    def __init__(self, lab: Lab, address: Address, bounds: ServerLimits) -> None:
        self._lab = lab
        self._boot = cast("BootService", lab.service(BOOT))
        self._address = address
        self._bounds = bounds
        self._rates = RateLimiter(bounds.rate, bounds.burst, bounds.patience)
        self._asking: Counter[str] = Counter()  # number of current requests by caller
        self._turns = KeyedLimiter(bounds.bodies)

    async def too_fast(self, caller: str) -> bool:
        """Delay a request that comes too fast; return whether to refuse it instead."""
        loop = asyncio.get_running_loop()
        seconds = self._rates.hold(caller, loop.time())
        if seconds:
            await asyncio.sleep(seconds)
        return seconds is None

    async def request(self, request: web.Request) -> web.StreamResponse:
        """Answer a request; if it is refused, show the user a notice."""
        bearer = self._identify(request)
        answer = await self._answer_machine(request, bearer)
        is_told = answer.status in _TOLD.get(request.method, _REFUSED)
        if is_told and not browsers_mark(request):  # a person with a browser sees the answer
            machine = bearer.machine if bearer is not None else str(machine_address(request.remote or ""))
            self._tell(machine, answer.status, getattr(answer, "text", None) or "")
        return answer

    def _tell(self, machine: str, status: int, why: str) -> None:
        """Show the user a notice about why a machine was refused."""
        self._lab.notices.note(machine, REFUSED, str(status), f"{status}, {why.strip().removeprefix(f'{machine} ')}")

    def turned_away(self, address: str, status: int, why: str) -> None:
        """Show the user a notice about a connection that was refused before its request was read."""
        self._tell(str(machine_address(address)) if address else "somebody", status, why)

    async def _answer_machine(self, request: web.Request, bearer: BootIdentity | None) -> web.StreamResponse:
        began = self._lab.lab_state.clock.now()
        caller = _caller(request, bearer)
        refused = await self._refused(request, caller)
        if refused is not None or bearer is None:
            return refused or self._stranger(request)
        if _path(request) != self._address.path:
            return firmware.look(self._boot, bearer.machine)
        if self._asking[caller] >= self._bounds.requests:
            return too_much()
        self._asking[caller] += 1
        try:
            return await self._answer(request, bearer, began)
        except Exception as error:  # a defect of the lab, which must not count as a failure of the workload
            self._tell(bearer.machine, 500, what_was_raised(error))
            if not bearer.replaced:  # a replaced token belongs to an earlier attempt
                why = f"the lab broke down over it: {what_was_raised(error)}"
                self._boot.requests.broke_down(bearer.machine, why)
            raise
        finally:
            self._asking[caller] -= 1
            if not self._asking[caller]:
                del self._asking[caller]

    async def _answer(self, request: web.Request, bearer: BootIdentity, began: float) -> web.StreamResponse:
        try:
            if (why := self._lab.refuses) is not None:
                raise why
            await self._boot.requests.opened()
            if request.method != "PUT":
                return await METHODS[request.method](request, self._boot, bearer)
            return await self._take_report(request, bearer, began)
        except UsedError as error:
            self._lab.machines.refused(bearer, error)
            return web.Response(status=403, text=f"{error}\n")
        except DispatchError as error:
            return web.Response(status=503, text=f"{error}\n")
        except (ConnectionError, web.RequestPayloadError) as error:
            return web.Response(status=400, text=f"expected a whole request: {error}\n")

    async def _take_report(self, request: web.Request, bearer: BootIdentity, began: float) -> web.StreamResponse:
        """Take a report for the attempt that ran when the request began, or before its token was replaced."""
        began, data = min(began, bearer.until), bytearray()
        try:
            async with asyncio.timeout(self._bounds.body), self._turns.turn(_caller(request, bearer)):
                return await beacon.put(request, self._boot, bearer, began, data)
        except TimeoutError:
            why = f"expected all of it within {format_duration(self._bounds.body)}"
            if request.content.at_eof():  # the whole report arrived: the lab is slow, and may have stored it
                return web.Response(status=408, text=f"{why}\n")
            return await beacon.refuse(self._boot, bearer, began, data, beacon.RefusedError(408, why, whole=False))

    async def _refused(self, request: web.Request, caller: str) -> web.Response | None:
        """Return a refusal if no machine may make this request; None if one may."""
        if await self.too_fast(caller):
            return too_much()
        path, ours = _path(request), self._address.path
        looks, mark = path == ours + LOOK, browsers_mark(request)
        # A tool with a token acts for the token's machine, and its URL cannot take more than one attempt.
        tool = "" if looks or "machine" in request.query else tool_of(request)
        if mark:
            text = f"this is for machines to boot from, not for browsers, and no machine sends {mark}\n"
            return web.Response(status=403, text=text)
        if path != ours and not looks:
            return web.Response(status=404, text=f"machines boot from {ours}\n")
        if request.method not in (LOOKS if looks else METHODS):
            allowed = ", ".join(LOOKS if looks else METHODS)
            return web.Response(status=405, text=f"expected one of {allowed}\n", headers={"Allow": allowed})
        return self._no_machine(tool, ours + LOOK) if tool and tool not in self._address.tools else None

    def _identify(self, request: web.Request) -> BootIdentity | None:
        """Identify the machine by the token in its boot URL, else by its address; return None if it may not boot here.

        Who has a token got it from us, and who is one of ours by its address was named to us: neither needs a place on
        the list of allowed addresses.
        """
        token = request.query.get("machine")
        if token is not None:
            return self._lab.machines.bearer(token)
        address = machine_address(request.remote or "")
        if (ours := self._lab.machines.at(str(address))) is not None:
            return ours
        name = self._lab.queue.machines.called(Identity(KnownBy.ADDRESS, str(address)))
        allowed = self._address.allow
        if name == str(address) and allowed is not None and not any(address in network for network in allowed):
            return None
        return BootIdentity(name)

    @property
    def _allowing(self) -> str:
        """Return by what a user names the networks whose machines may boot."""
        return "--dispatch-allow" if self._lab.private else "server.allow of lab.yaml"

    def _no_machine(self, tool: str, where: str) -> web.Response:
        """Return a 403 for a tool that would not boot the workload; some show only the reason in the status line."""
        see = "--dispatch-boot-tool" if self._lab.private else "server.boot_tools of lab.yaml"
        text = f"{tool} is taken for a person's tool and gets no workload: look at {where}, or see {see}"
        return web.Response(status=403, reason=text, text=f"{text}\n")

    def _stranger(self, request: web.Request) -> web.Response:
        """Return a 403 for a machine that `_identify` does not know."""
        why = f"the lab brings machines of its own up, and takes others only with {self._allowing}"
        if "machine" in request.query:
            why = "the token in its boot URL is of another lab, an earlier session, or a boot long past"
        elif self._address.allow:
            why = f"{self._allowing} does not name its address"
        return web.Response(status=403, text=f"this machine may not boot here: {why}\n")


@lru_cache(maxsize=4096)
def machine_address(remote: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return a peer's address without its zone; convert an IPv4-mapped IPv6 address to IPv4 (RFC 4291, 2.5.5.2)."""
    address = ipaddress.ip_address(remote.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _caller(request: web.Request, bearer: BootIdentity | None) -> str:
    """Return the caller to which limits apply: the token if there is one, so that each boot has its own limits."""
    if bearer is None:
        return request.remote or ""
    return request.query.get("machine", bearer.machine)


def _path(request: web.Request) -> str:
    """Return the request's path; firmware may send double slashes."""
    path = request.path
    return re.sub("/+", "/", path) if "//" in path else path


def too_much() -> web.Response:
    """Return a 429 for a caller with too many requests at once, or in too short a time."""
    text = "too many requests at once, or in too short a time: try again in a moment\n"
    return web.Response(status=429, text=text, headers={"Retry-After": "1"})
