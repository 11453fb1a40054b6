"""A client of MAAS: machines by tag, and the operations on one machine."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.support.service_client import ServiceClient, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

PATH = "/api/2.0"
SLOW = 90.0  # seconds within which an operation of a BMC is answered: MAAS waits for it, and asks it several times


@dataclass(frozen=True, slots=True)
class MaasKey:
    """An API key.

    Attributes:
        consumer: Its first part.
        token: Its second part.
        secret: Its third part.
    """

    consumer: str
    token: str
    secret: Token

    @classmethod
    def read(cls, where: str, given: str, url: str) -> MaasKey:
        """Read a key, as MAAS shows it.

        Args:
            where: Where it was set, for the message.
            given: `consumer:token:secret`.
            url: The MAAS that it is for.

        Raises:
            ConfigError: It is no key; the text does not show it.
        """
        parts = given.strip().split(":")
        if len(parts) != 3 or not all(part and part.isascii() and part.isalnum() for part in parts):
            raise ConfigError(
                f"{where}: expected an API key as consumer:token:secret, got something else; MAAS shows it under the"
                " user's preferences, API keys"
            )
        return cls(parts[0], parts[1], Token(parts[2], where, url))

    def signs(self) -> dict[str, str]:
        """Return the header that signs a request: OAuth 1.0 with PLAINTEXT (RFC 5849, section 3.4.4)."""
        said = {
            "oauth_nonce": secrets.token_hex(16),
            "oauth_timestamp": str(int(time.time())),
            "oauth_version": "1.0",
            "oauth_signature_method": "PLAINTEXT",
            "oauth_consumer_key": self.consumer,
            "oauth_token": self.token,
            "oauth_signature": quote(f"&{self.secret.reveal()}", safe=""),
        }
        return {"Authorization": "OAuth " + ", ".join(f'{name}="{value}"' for name, value in said.items())}


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class MaasMachine(msgspec.Struct, frozen=True):
    """A machine, as far as it is read."""

    system_id: str
    hostname: str
    status_name: str = ""
    status_message: str | None = None
    power_type: str = ""
    power_state: str = "unknown"
    owner: str | None = None
    owner_data: dict[str, str] = {}
    architecture: str | None = None
    tag_names: tuple[str, ...] = ()
    zone: _Named = _Named()
    pool: _Named | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Return what it has, for selecting with `-k`: its tags, `pool:`, `zone:` and `arch:`."""
        arch = (self.architecture or "").partition("/")[0]
        named = (("pool", self.pool.name if self.pool else ""), ("zone", self.zone.name), ("arch", arch))
        return (*self.tag_names, *(f"{key}:{value}" for key, value in named if value))


class _Power(msgspec.Struct, frozen=True):
    state: str


class _User(msgspec.Struct, frozen=True):
    username: str


class MaasApi:
    """Asks one MAAS with one key.

    Args:
        url: Its address: `https://maas.example/MAAS`.
        key: The key.
        now: Returns the time, for pauses after failures.
    """

    def __init__(self, url: str, key: MaasKey, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._client = ServiceClient("MAAS", f"{url.rstrip('/')}{PATH}", now, key.secret)

    async def machines(self, tag: str) -> list[MaasMachine]:
        """Return the machines with a tag.

        Raises:
            ServiceError: MAAS does not answer, refuses the key, or has no such tag (status 400).
        """
        answer = await self._client.ask("GET", "/machines/", self._key.signs(), query=[("tags", tag)])
        return self._client.decoded(answer, list[MaasMachine])

    async def named(self, hostname: str) -> list[MaasMachine]:
        """Return the machines of this name, of which each domain may have one.

        Raises:
            ServiceError: MAAS does not answer, or refuses the key.
        """
        answer = await self._client.ask("GET", "/machines/", self._key.signs(), query=[("hostname", hostname)])
        return self._client.decoded(answer, list[MaasMachine])

    async def user(self) -> str:
        """Return the name of the key's user.

        Raises:
            ServiceError: MAAS does not answer, or refuses the key.
        """
        answer = await self._client.ask("GET", "/users/", self._key.signs(), query=[("op", "whoami")])
        return self._client.decoded(answer, _User).username

    async def machine(self, system_id: str) -> MaasMachine:
        """Return a machine.

        Raises:
            ServiceError: MAAS does not answer, or has no such machine (status 404).
        """
        answer = await self._client.ask("GET", self._path(system_id), self._key.signs())
        return self._client.decoded(answer, MaasMachine)

    async def power(self, system_id: str) -> str:
        """Ask a machine's BMC whether it is `on`, `off`, `unknown` or `error`; this may take half a minute.

        Raises:
            ServiceError: MAAS does not answer, or its BMC fails (status 503).
        """
        answer = await self._ask_bmc("GET", system_id, "query_power_state")
        return self._client.decoded(answer, _Power).state

    async def operate(self, system_id: str, operation: str, **form: str) -> bool:
        """Carry out an operation on a machine: `power_on`, `power_off`, `release`, `mark_broken`, `mark_fixed`, ….

        Returns:
            Whether anything was done: MAAS cannot power off a machine whose power it does not control.

        Raises:
            ServiceError: MAAS does not answer, or refuses it: 409 if the machine's state does not allow it, 503 if its
                BMC fails, or is busy with another order.
        """
        answer = await self._ask_bmc("POST", system_id, operation, data=form)
        return answer.content.strip() != b"null"

    async def allocate(self, system_id: str, comment: str) -> None:
        """Allocate a machine that is ready.

        Raises:
            ServiceError: MAAS does not answer, or somebody else has it (status 409).
        """
        query, form = [("op", "allocate")], {"system_id": system_id, "comment": comment}
        await self._client.ask("POST", "/machines/", self._key.signs(), query=query, data=form)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask_bmc(self, verb: str, system_id: str, operation: str, **body: Any) -> httpx.Response:
        path, query, fine = self._path(system_id), [("op", operation)], (200, 503)
        answer = await self._client.ask(verb, path, self._key.signs(), query=query, fine=fine, slow=SLOW, **body)
        if answer.status_code == 503:  # of this machine's BMC, so that the others go on
            raise ServiceError(self._client.told(verb, f"{path}?op={operation}", answer), status=503)
        return answer

    def _path(self, system_id: str) -> str:
        return f"/machines/{quote(system_id, safe='')}/"
