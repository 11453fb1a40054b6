"""The endpoints of a `FakeMaas`: machines by tag, and the operations on one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp import web

from pytest_dispatch.testing.maas_state import (
    ALLOCATED,
    BROKEN,
    DEPLOYED,
    DEPLOYING,
    FAILED_DEPLOYMENT,
    READY,
    RELEASABLE,
    RELEASING,
    STATUSES,
    FakeNode,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from pytest_dispatch.testing.timeline import Timeline

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PREFIX = "/MAAS/api/2.0"
MANUAL = "manual"  # the power type of a machine whose power MAAS does not control
USER = "dispatch"  # who the key belongs to

_OAUTH = re.compile(r'(\w+)="([^"]*)"')
_NEEDED = ("consumer_key", "token", "signature", "signature_method", "timestamp", "nonce")
_DEPLOYING = 300.0  # seconds of a deployment
_RELEASING = 30.0
_POWERING = 5.0


class ViolationError(Exception):
    """An answer that refuses an operation, as plain text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def refusal(status: int, text: str) -> web.Response:
    """Return an error as MAAS writes it: plain text."""
    return web.Response(status=status, text=text)


class MaasRoutes:
    """The endpoints.

    Args:
        nodes: The machines by system id.
        timeline: What is due.
        key: The API key: `consumer:token:secret`.
        speed: How many seconds pass for machines in one of ours.
    """

    def __init__(self, nodes: Mapping[str, FakeNode], timeline: Timeline, key: str, speed: float) -> None:
        self._nodes = nodes
        self._timeline = timeline
        self._key = key
        self._speed = speed
        self._operations: Mapping[str, Callable[[FakeNode, Mapping[str, str]], None]] = {
            "power_on": self._power_on,
            "power_off": self._power_off,
            "deploy": self._deploy,
            "release": self._release,
            "mark_broken": self._mark_broken,
            "mark_fixed": self._mark_fixed,
            "set_owner_data": self._note,
        }

    def table(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(f"{PREFIX}/version/", self._version),
            web.get(f"{PREFIX}/users/", self._users),
            web.get(f"{PREFIX}/machines/", self._machines),
            web.post(f"{PREFIX}/machines/", self._allocate),
            web.get(f"{PREFIX}/machines/{{id}}/", self._machine),
            web.post(f"{PREFIX}/machines/{{id}}/", self._operate),
        ]

    @web.middleware
    async def refused(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a refusal as MAAS does, with the state held still."""
        await request.post()  # so that no handler waits for anything
        try:
            with self._timeline.current():
                return await handler(request)
        except ViolationError as error:
            return refusal(error.status, str(error))
        except web.HTTPNotFound:
            return refusal(404, "Not Found")

    def _signed_in(self, request: web.Request) -> None:
        """Refuse a request that is not signed by the key with OAuth 1.0 PLAINTEXT (RFC 5849, section 3.4.4)."""
        header = request.headers.get("Authorization", "")
        said = {name.removeprefix("oauth_"): unquote(value) for name, value in _OAUTH.findall(header)}
        if not header.startswith("OAuth ") or any(name not in said for name in _NEEDED):
            raise ViolationError(400 if header.startswith("OAuth ") else 401, "Unrecognised signature.")
        consumer, token, secret = self._key.split(":")
        given = (said["consumer_key"], said["token"], said["signature"], said["signature_method"])
        if given != (consumer, token, f"&{secret}", "PLAINTEXT"):
            raise ViolationError(401, f"Authorization Error: Invalid access token: {said['token']}")

    # Looking

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "3.5.1", "subversion": "", "capabilities": []})

    async def _users(self, request: web.Request) -> web.Response:
        self._signed_in(request)
        if request.query.get("op") != "whoami":
            raise ViolationError(400, "Unrecognised operation.")
        return web.json_response({"username": USER, "email": "", "is_superuser": False, "is_local": True})

    async def _machines(self, request: web.Request) -> web.Response:
        self._signed_in(request)
        names = request.query.getall("hostname", [])
        tags = [tag for given in request.query.getall("tags", []) for tag in re.split(r"[,\s]+", given) if tag]
        known = {tag for node in self._nodes.values() for tag in node.tags}
        if strange := [tag for tag in tags if tag not in known]:
            text = ", ".join(repr(tag) for tag in strange)
            return web.json_response({"tags": [f"No such tag(s): {text}."]}, status=400)
        found = [node for node in self._nodes.values() if set(tags) <= set(node.tags)]
        return web.json_response([node.as_json() for node in found if not names or node.hostname in names])

    async def _machine(self, request: web.Request) -> web.Response:
        node = self._node(request)
        if request.query.get("op") == "query_power_state":
            known = "unknown" if node.power_type == MANUAL else node.power
            return web.json_response({"state": "error" if node.power_fails else known})
        return web.json_response(node.as_json())

    # Operations

    async def _allocate(self, request: web.Request) -> web.Response:
        self._signed_in(request)
        form = {name: str(value) for name, value in (await request.post()).items()}
        ready = (node for node in self._nodes.values() if node.status == READY and not node.owner)
        node = next((node for node in ready if node.system_id == form.get("system_id", node.system_id)), None)
        if request.query.get("op") != "allocate" or node is None:
            raise ViolationError(409, "No machine available.")
        node.status, node.owner, node.comment = ALLOCATED, USER, form.get("comment", "")
        return web.json_response(node.as_json())

    async def _operate(self, request: web.Request) -> web.Response:
        node, operation = self._node(request), self._operations.get(request.query.get("op", ""))
        if operation is None:
            raise ViolationError(400, "Unrecognised operation.")
        form = {name: str(value) for name, value in (await request.post()).items()}
        if node.locked or node.owner not in ("", USER):
            raise ViolationError(403, "Forbidden")
        operation(node, form)
        node.comment = form.get("comment", node.comment)
        unable = operation == self._power_off and node.power_type == MANUAL
        return web.json_response(None if unable else node.as_json())

    def _power_on(self, node: FakeNode, form: Mapping[str, str]) -> None:
        """Power a machine on; one that is allocated is deployed by that."""
        if not node.owner:
            raise ViolationError(409, "Can't start node: it hasn't been allocated.")
        if node.status == ALLOCATED:
            self._deploy(node, form)
        else:
            self._power(node, "on")

    def _power_off(self, node: FakeNode, _form: Mapping[str, str]) -> None:
        self._power(node, "off")

    def _power(self, node: FakeNode, state: str) -> None:
        if node.power_type == MANUAL:
            return
        if node.power_fails:
            raise ViolationError(503, "Failed talking to node's BMC: Connection timeout while performing power action.")
        if node.turns not in ("", state):
            text = f"Unable to change power state to '{state}' for node {node.hostname}: another action is already"
            raise ViolationError(503, f"{text} in progress for that node.")
        if not node.power_sticks:
            node.turns = state
            self._after(_POWERING, lambda: self._powered(node, state))

    def _powered(self, node: FakeNode, state: str) -> None:
        node.power, node.turns = state, ""

    def _deploy(self, node: FakeNode, form: Mapping[str, str]) -> None:
        if node.status not in (READY, ALLOCATED):
            raise ViolationError(409, f"Can't deploy a machine that is in the '{STATUSES[node.status]}' state")
        self._power(node, "on")
        node.status, node.owner, node.distro_series = DEPLOYING, USER, form.get("distro_series", "noble")
        self._after(_DEPLOYING, lambda: self._deployed(node))

    def _deployed(self, node: FakeNode) -> None:
        if node.status == DEPLOYING:
            node.status = FAILED_DEPLOYMENT if node.deploy_fails else DEPLOYED

    def _release(self, node: FakeNode, _form: Mapping[str, str]) -> None:
        if node.status in (READY, RELEASING):
            return
        if node.status not in RELEASABLE:
            text = f"Machine cannot be released in its current state ('{STATUSES[node.status]}')."
            raise ViolationError(409, text)
        rests = node.power_type == MANUAL or (node.power == "off" and not node.turns)
        if not rests:
            self._power(node, "off")
        node.status = RELEASING
        if rests:
            self._released(node)
        else:
            self._after(_RELEASING, lambda: self._released(node))

    def _released(self, node: FakeNode) -> None:
        if node.status == RELEASING:
            node.status, node.owner, node.distro_series, node.owner_data = READY, "", "", {}

    def _mark_broken(self, node: FakeNode, _form: Mapping[str, str]) -> None:
        """Mark a machine as broken, which releases it and powers it off."""
        if node.status in RELEASABLE and node.power != "off":
            self._power(node, "off")
        node.status, node.owner, node.distro_series, node.owner_data = BROKEN, "", "", {}

    def _note(self, node: FakeNode, form: Mapping[str, str]) -> None:
        """Note what its owner says; an empty value takes a note back."""
        if not node.owner:
            raise ViolationError(409, "Cannot set workload annotation: it hasn't been acquired.")
        node.owner_data = {name: value for name, value in {**node.owner_data, **form}.items() if value}

    def _mark_fixed(self, node: FakeNode, _form: Mapping[str, str]) -> None:
        if node.status != BROKEN:
            raise ViolationError(409, "Can't mark a non-broken node as 'Ready'.")
        node.status = READY

    def _node(self, request: web.Request) -> FakeNode:
        self._signed_in(request)
        node = self._nodes.get(request.match_info["id"])
        if node is None:
            raise ViolationError(404, "No Machine matches the given query.")
        return node

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._timeline.after(seconds / self._speed, act)
