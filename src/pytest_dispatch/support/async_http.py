"""Requests to one server from an event loop, each with a deadline and a limit of its answer."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import httpx

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.support.network_errors import Origin
from pytest_dispatch.support.transport import client_options, proxy_for, why_unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 15.0  # seconds to wait for a connection, and for each part of an answer
WHOLE = 60.0  # longest duration of a whole request, in seconds
LARGEST = 16 * 2**20  # bytes of one answer
LONGEST = 64 * 2**20  # bytes of one answer of which only the end is kept


class NoAnswerError(Exception):
    """No answer came; the text names the server and says why.

    Attributes:
        sent: Whether the request may have been carried out all the same.
    """

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class TooLongError(Exception):
    """An answer is longer than `LARGEST`, or `LONGEST`; the text names the server."""


class AsyncHttp:
    """Connections to one server; redirects are not followed.

    Args:
        base: A URL of the server, for its certificates and its proxy.
        headers: Headers of all requests.
        whole: Longest duration of a whole request, in seconds.
    """

    def __init__(self, base: str, headers: Mapping[str, str], whole: float = WHOLE) -> None:
        self._base = base
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "pytest-dispatch", **headers}
        self._whole = whole
        self._client: httpx.AsyncClient | None = None

    async def send(
        self, verb: str, url: str, headers: Mapping[str, str], last: int = 0, *, slow: float = 0.0, **body: Any
    ) -> httpx.Response:
        """Return the answer to one request, whatever its status.

        Args:
            verb: The method.
            url: A URL.
            headers: Headers in addition to those of all requests.
            last: How many bytes of the end of the answer are kept; 0 for all.
            slow: Seconds within which the whole answer comes, if it is known to take longer than others.
            body: `json` or `data`, as httpx has them.

        Raises:
            NoAnswerError: No answer came in time.
            TooLongError: It is too long.
        """
        whole, part = max(self._whole, slow), max(TIMEOUT, slow)
        timeout = httpx.Timeout(part, connect=TIMEOUT, pool=TIMEOUT)
        try:
            async with asyncio.timeout(whole):
                return await self._answered(verb, url, {**self._headers, **headers}, {**body, "timeout": timeout}, last)
        except (httpx.TransportError, httpx.InvalidURL, TimeoutError) as error:
            raise self._unreachable(error, whole, part) from None  # its frames contain the headers

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _answered(
        self, verb: str, url: str, headers: Mapping[str, str], body: Mapping[str, Any], last: int
    ) -> httpx.Response:
        if self._client is None:
            try:
                self._client = httpx.AsyncClient(**client_options(self._base, os.environ))
            except ConfigError as error:
                raise NoAnswerError(str(error), sent=False) from None  # its frames contain the environment
        async with self._client.stream(verb, url, headers=headers, **body) as answer:
            data, came, most = bytearray(), 0, LONGEST if last else LARGEST
            async for piece in answer.aiter_raw():
                data += piece
                came += len(piece)
                if came > most:
                    raise TooLongError(f"{self._host}: expected an answer of at most {most} bytes, got more")
                if last:
                    del data[:-last]
            whole = httpx.Response(answer.status_code, headers=answer.headers, content=bytes(data))
            whole.request = answer.request
            return whole

    @property
    def _host(self) -> str:
        return Origin.of(self._base).host

    def _unreachable(self, error: Exception, whole: float, part: float) -> NoAnswerError:
        if isinstance(error, TimeoutError):
            what = f"no whole answer within {format_duration(whole)}"
        else:
            longest = TIMEOUT if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout) else part
            what = why_unreachable(error, longest, proxy_for(self._base, os.environ))
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        return NoAnswerError(f"{self._host} cannot be reached: {plain_line(what)}", sent=not unsent)
