"""A client of a Testflinger server: agents, jobs, their results and logs."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from pytest_dispatch.support.service_client import ServiceClient, ServiceError
from pytest_dispatch.testflinger.shapes import About, Agent, FoundJob, Fragments, Result, Submitted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import httpx

    from pytest_dispatch.core.secrets import Token

EARLY = 30.0  # seconds before its end from which on a token is not used any more

_REFUSED = (401, 403)


@dataclass(frozen=True, slots=True)
class Account:
    """A client id and its secret."""

    client_id: str
    secret: Token

    def signs(self) -> dict[str, str]:
        """Return the header that asks for a token (RFC 7617)."""
        both = f"{self.client_id}:{self.secret.reveal()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(both).decode()}"}


class _Granted(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float = 600.0


class TestflingerApi:
    """Asks one server, with an account or as anybody.

    Args:
        url: Its address: `https://testflinger.example`.
        account: Who asks; None for anybody.
        now: Returns the time, for tokens and for pauses after failures.

    Attributes:
        client: Sends the requests.
    """

    __test__ = False  # no tests, whatever its name begins with

    def __init__(self, url: str, account: Account | None, now: Callable[[], float] = time.time) -> None:
        self.url = url.rstrip("/")
        self._account = account
        self._now = now
        self._token = ""
        self._until = 0.0
        self.client = ServiceClient("Testflinger", f"{self.url}/v1", now, account.secret if account else None)

    async def agents(self) -> list[Agent]:
        """Return all agents.

        Raises:
            ServiceError: The server does not answer, or refuses the account.
        """
        return self.client.decoded(await self._ask("GET", "/agents/data"), list[Agent])

    async def submit(self, job: Mapping[str, Any]) -> str:
        """Submit a job, and return its id.

        Raises:
            ServiceError: The job is refused, or it is not known whether it was taken (`sent`).
        """
        return self.client.decoded(await self._ask("POST", "/job", json=dict(job)), Submitted).job_id

    async def find(self, tag: str) -> list[FoundJob]:
        """Return the jobs with a tag.

        Raises:
            ServiceError: The server does not answer.
        """
        answer = await self._ask("GET", "/job/search", query=[("tags", tag), ("match", "all")])
        return self.client.decoded(answer, list[FoundJob])

    async def result(self, job: str) -> Result | None:
        """Return the state of a job and its phases; None if the server does not know it.

        Raises:
            ServiceError: The server does not answer.
        """
        answer = await self._ask("GET", f"/result/{_quoted(job)}", fine=(200, 204))
        return None if answer.status_code == 204 else Result.of(self.client.decoded(answer, dict[str, Any]))

    async def position(self, job: str) -> int | None:
        """Return how many jobs come before one in its queue; None if it has started.

        Raises:
            ServiceError: The server does not answer.
        """
        answer = await self._ask("GET", f"/job/{_quoted(job)}/position", fine=(200, 410))
        text = answer.text.strip()
        return int(text) if answer.status_code == 200 and text.isdecimal() else None

    async def cancel(self, job: str) -> bool:
        """Cancel a job; return False if it is over already, or not known.

        Raises:
            ServiceError: The server does not answer.
        """
        answer = await self._ask("POST", f"/job/{_quoted(job)}/action", fine=(200, 400), json={"action": "cancel"})
        return answer.status_code == 200

    async def about(self, job: str) -> About | None:
        """Return what a job says of itself; None if the server does not know it.

        Raises:
            ServiceError: The server does not answer.
        """
        answer = await self._ask("GET", f"/job/{_quoted(job)}", fine=(200, 204))
        return None if answer.status_code == 204 else self.client.decoded(answer, About)

    async def logs(self, job: str, kind: str) -> dict[str, Fragments] | None:
        """Return a log by phase, from its beginning on; None if the server is one that does not count fragments.

        Args:
            job: The job's id.
            kind: `output` or `serial`.

        Raises:
            ServiceError: The server does not answer.
        """
        answer = await self._ask("GET", f"/result/{_quoted(job)}/log/{kind}", fine=(200, 404))
        if answer.status_code == 404:
            return None
        return self.client.decoded(answer, dict[str, dict[str, Fragments]]).get(kind, {})

    async def old_log(self, job: str, kind: str) -> str:
        """Return the part of a log that an older server has given to nobody yet.

        Args:
            job: The job's id.
            kind: `output` or `serial`.

        Raises:
            ServiceError: The server does not answer.
        """
        name = "serial_output" if kind == "serial" else "output"
        answer = await self._ask("GET", f"/result/{_quoted(job)}/{name}", fine=(200, 204, 404))
        return answer.text if answer.status_code == 200 else ""

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    async def _ask(
        self,
        verb: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        fine: Collection[int] = (200,),
        **body: Any,
    ) -> httpx.Response:
        """Return an answer; a token that the server does not take any more is replaced once."""
        signed = await self._signed()
        try:
            return await self.client.ask(verb, path, signed, query=query, fine=fine, **body)
        except ServiceError as error:
            if error.status not in _REFUSED or not signed:
                raise
        self._token = ""
        return await self.client.ask(verb, path, await self._signed(), query=query, fine=fine, **body)

    async def _signed(self) -> dict[str, str]:
        if self._account is None:
            return {}
        if not self._token or self._now() >= self._until:
            answer = await self.client.ask("POST", "/oauth2/token", self._account.signs())
            granted = self.client.decoded(answer, _Granted)
            self._token, self._until = granted.access_token, self._now() + granted.expires_in - EARLY
        return {"Authorization": f"Bearer {self._token}"}


def _quoted(job: str) -> str:
    return quote(job, safe="")
