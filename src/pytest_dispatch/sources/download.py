"""Gets an asset's bytes from GitHub into a file: resumed after a cut, checked, the token kept to its API."""

from __future__ import annotations

import asyncio
import os
import re
import time
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from http.client import responses
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpx

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import ConfigError, FetchError
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.secrets import ways_to_sign_in
from pytest_dispatch.github.api import message_of, no_right_helps, trouble_of
from pytest_dispatch.github.transport import Proxy, client_options, proxy_for, why_unreachable
from pytest_dispatch.sources.digests import CHUNK
from pytest_dispatch.sources.partial_file import CHANGED, Partial, PassingError, StartOverError, Wanted
from pytest_dispatch.support.blocking import in_thread
from pytest_dispatch.support.network_errors import Origin, is_safe_url, limit_wait

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from pytest_dispatch.core.secrets import Token

REDIRECTS = 5
REFUSAL = 65_536  # bytes of a refusal that are looked at
_HEADERS = {
    "Accept": "application/octet-stream",
    # Bytes are counted and hashed as they come, so they have to come as they are.
    "Accept-Encoding": "identity",
    "User-Agent": "pytest-dispatch",
}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19})")  # as many digits as a disk has bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long, and how often.

    Attributes:
        timeout: Seconds to wait for a connection, and for each part of an answer.
        pauses: Seconds before each further try. Whenever a MiB was gained they begin anew.
        slowest: Bytes per second, over as long as `timeout`; a download that is slower is taken for cut.
        limited: Seconds that are waited for rate limits, for each asset.
    """

    timeout: float = 30.0
    pauses: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    slowest: float = 1024.0
    limited: float = 600.0


class Downloader:
    """Fetches assets, several at a time.

    Args:
        token: Sent to its own API alone: not to where that redirects to, be it only another port.
        patience: For tests, mostly.
        make_room: Called in a thread before so many more bytes are written.
    """

    def __init__(
        self, token: Token | None, patience: Patience, make_room: Callable[[threading.Event, int], object]
    ) -> None:
        self._make_room = make_room
        self._token = token
        self._home = Origin.of(token.api_url) if token else None
        self._patience = patience
        self._clients: dict[tuple[str, Proxy | None], httpx.AsyncClient] = {}
        self._opening = asyncio.Lock()

    async def fetch(self, wanted: Wanted, partial: Path, on_progress: Callable[[int], None]) -> str:
        """Get the bytes into `partial`, which may hold the beginning of them already.

        Returns:
            Their digest, as hex digits; it and the size are what was promised.

        Raises:
            FetchError: They cannot be had, or are not what was promised.
            OSError: `partial` cannot be written.
        """
        file = Partial(partial, wanted, self._make_room)
        pauses = iter(self._patience.pauses)
        gained, limited = 0, self._patience.limited
        while True:
            try:
                return await self._try(wanted, file, on_progress)
            except PassingError as error:
                if isinstance(error, StartOverError):
                    await in_thread(file.discard)
                if file.size >= gained + CHUNK:
                    gained, pauses = file.size, iter(self._patience.pauses)
                pause = next(pauses, None) if error.wait is None else error.wait
                limited -= error.wait or 0.0
                if pause is None or limited < 0:
                    raise FetchError(f"{wanted.name}: {error}") from error.__cause__
            finally:
                await in_thread(file.close)
            await asyncio.sleep(pause)

    async def aclose(self) -> None:
        """Drop the connections."""
        for client in self._clients.values():
            await client.aclose()

    async def _try(self, wanted: Wanted, file: Partial, on_progress: Callable[[int], None]) -> str:
        await in_thread(file.open)
        try:
            if file.size < wanted.size:
                async with self._answer(wanted, file.resume_headers()) as answer:
                    start = _start(wanted, answer, file.size)
                    await in_thread(file.begin, start, answer.headers.get("etag", ""))
                    async with aclosing(_chunks(answer, self._patience)) as chunks:
                        async for chunk in chunks:
                            await in_thread(file.write, chunk)
                            on_progress(file.size)
            return await in_thread(file.finish)
        except httpx.TransportError as error:
            url = error.request.url
            reason = why_unreachable(error, self._patience.timeout, proxy_for(str(url), os.environ))
            have = f" after {file.size} of {wanted.size} bytes" if file.size else ""
            raise PassingError(f"{url.host}{have}: {reason}") from error

    @asynccontextmanager
    async def _answer(self, wanted: Wanted, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        url = _url(wanted, wanted.url)
        for _ in range(REDIRECTS + 1):
            client = await self._leading_to(url)
            request = client.build_request("GET", url, headers={**headers, **self._signed(str(url))})
            answer = await self._send(client, request)
            try:
                if not answer.has_redirect_location:
                    await self._refuse(wanted, answer)
                    yield answer
                    return
            finally:
                await answer.aclose()
            url = redirected(wanted, answer)
        raise FetchError(f"{wanted.name}: expected the asset after at most {REDIRECTS} redirects, got another one")

    async def _send(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        longest = 2 * self._patience.timeout  # however busily the head of the answer trickles in
        try:
            async with asyncio.timeout(longest):
                return await client.send(request, stream=True)
        except TimeoutError:
            raise PassingError(f"{request.url.host}: no answer within {format_duration(longest)}") from None

    async def _leading_to(self, url: httpx.URL) -> httpx.AsyncClient:
        """Return the client with the proxy for this URL: storage and API may need different proxies, or none."""
        try:
            way = url.scheme, proxy_for(str(url), os.environ)
            async with self._opening:
                if way not in self._clients:
                    options = await asyncio.to_thread(client_options, str(url), os.environ)  # which reads certificates
                    self._clients[way] = httpx.AsyncClient(timeout=self._patience.timeout, **options)
                return self._clients[way]
        except ConfigError as error:
            raise FetchError(str(error)) from None  # whose frames hold the environment

    def _signed(self, url: str) -> dict[str, str]:
        if self._token is None or Origin.of(url) != self._home:
            return _HEADERS
        return {**_HEADERS, "Authorization": f"Bearer {self._token.reveal()}"}

    async def _refuse(self, wanted: Wanted, answer: httpx.Response) -> None:
        """Raise unless the answer has the bytes."""
        status = answer.status_code
        if status in (200, 206):
            return
        host = answer.url.host
        said = f"{host} answered {status} {responses.get(status, '')}"
        if status == 416:
            raise StartOverError(said)
        # A signed address runs out after minutes; a new try gets a new one.
        elsewhere = Origin.of(str(answer.url)) != Origin.of(wanted.url)
        if status >= 500 or status == 408 or (elsewhere and status == 403):
            raise PassingError(said)
        message = message_of(await self._begun(answer))
        wait = limit_wait(status, answer.headers, message)
        if wait is not None:
            hint = "" if self._token else "; a token has a limit of its own, which is far higher"
            raise PassingError(f"the rate limit of {host} is used up for {format_duration(wait)}{hint}", wait)
        beyond = no_right_helps(trouble_of(status, message))
        raise FetchError(f"{wanted.name}: {said}{beyond or self._advice(status, wanted.url)}")

    async def _begun(self, answer: httpx.Response) -> bytes:
        """Return the beginning of a refusal's body, as far as it comes in time."""
        data = bytearray()
        with suppress(httpx.TransportError, TimeoutError):
            async with asyncio.timeout(self._patience.timeout):
                async for piece in answer.aiter_raw():
                    data += piece
                    if len(data) > REFUSAL:
                        break
        return bytes(data)

    def _advice(self, status: int, url: str) -> str:
        if status == 401 and self._token is not None:
            return f"; is the token from {self._token.source} expired, revoked or mistyped?"
        if status not in (401, 403, 404):
            return ""
        gone = "it was deleted or replaced after the release was listed, or " if status == 404 else ""
        if self._token is None:
            return f"; {gone}it is private and needs a token ({ways_to_sign_in(url)})"
        return f"; {gone}the token from {self._token.source} may not read it (Contents: read)"


def _start(wanted: Wanted, answer: httpx.Response, have: int) -> int:
    """Return the number of the first byte in the answer's body."""
    host = answer.url.host
    encoding = _header(answer, "content-encoding") or "identity"
    if encoding != "identity":
        raise FetchError(f"{wanted.name}: expected the bytes as they are, {host} sent them as {encoding}")
    if answer.status_code == 206:
        told = _header(answer, "content-range")
        match = _CONTENT_RANGE.fullmatch(told)
        if match is None or (int(match[1]), int(match[2])) != (have, wanted.size):
            expected = f"bytes {have}-{wanted.size - 1}/{wanted.size}"
            raise StartOverError(f"{host}: expected {expected}, got {told or 'no Content-Range'}")
        return have
    length = _header(answer, "content-length") or str(wanted.size)
    if length != str(wanted.size):
        raise FetchError(f"{wanted.name}: expected {wanted.size} bytes, {host} has {length}: {CHANGED}")
    return 0


def _header(answer: httpx.Response, name: str) -> str:
    """Return a header for a message; empty if there is none."""
    return plain_line(answer.headers.get(name, ""), 80)


async def _chunks(answer: httpx.Response, patience: Patience) -> AsyncGenerator[bytes, None]:
    """Yield the body in pieces large enough to be written in a thread, including those before a cut."""
    buffer = bytearray()
    cut: httpx.TransportError | PassingError | None = None
    pace = _Pace(patience)
    try:
        async for piece in answer.aiter_raw():
            buffer += piece
            if not pace.keeps_up(len(piece)):
                cut = PassingError(f"{answer.url.host}: slower than {patience.slowest:g} bytes a second")
                break
            if len(buffer) >= CHUNK:
                yield bytes(buffer)
                buffer.clear()
    except httpx.TransportError as error:
        cut = error
    if buffer:
        yield bytes(buffer)
    if cut is not None:
        raise cut


class _Pace:
    """Measures whether bytes come fast enough."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since = time.monotonic()
        self._got = 0

    def keeps_up(self, count: int) -> bool:
        """Count bytes, and return whether they come fast enough."""
        self._got += count
        spent = time.monotonic() - self._since
        if spent < self._patience.timeout:
            return True
        enough = self._got >= spent * self._patience.slowest
        self._since, self._got = time.monotonic(), 0
        return enough


def redirected(wanted: Wanted, answer: httpx.Response) -> httpx.URL:
    """Return the target of a redirect.

    Raises:
        FetchError: It is not a URL to download from, or leads from a secure server to an insecure one.
    """
    location = answer.headers["location"]
    url = urljoin(str(answer.url), location)
    if answer.url.scheme == "https" and not url.startswith("https:"):
        raise FetchError(f"{wanted.name}: {answer.url.host} redirects to an insecure place, {url[:60]!r}")
    return _url(wanted, url)


def _url(wanted: Wanted, text: str) -> httpx.URL:
    try:
        if is_safe_url(text):
            return httpx.URL(text)
    except httpx.InvalidURL:
        pass  # too long, or with characters that no URL has
    raise FetchError(f"{wanted.name}: expected an absolute path or an asset's https:// URL, got {text[:60]!r}")
