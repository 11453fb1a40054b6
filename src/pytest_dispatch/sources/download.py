"""Downloads assets from GitHub: resumes after a cut, checks size and digest, and sends the token only to its API."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import responses
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import httpx

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import ConfigError, FetchError
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.secrets import ways_to_sign_in
from pytest_dispatch.github.api import GitHubError, Trouble, message_of, no_right_helps, trouble_of
from pytest_dispatch.github.rate_limits import limit_wait
from pytest_dispatch.sources.digests import CHUNK
from pytest_dispatch.sources.direct import Direct
from pytest_dispatch.sources.locations import owner_of
from pytest_dispatch.sources.partial_file import CHANGED, PassingError, StartOverError, Wanted
from pytest_dispatch.support.blocking import StoppedError
from pytest_dispatch.support.network_errors import Origin, is_safe_url
from pytest_dispatch.support.transport import Proxy, client_options, proxy_for, why_unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from pytest_dispatch.core.secrets import Token
    from pytest_dispatch.sources.partial_file import PartialFile
    from pytest_dispatch.support.blocking import Stop, Threads

REDIRECTS = 5
REFUSAL = 65_536  # bytes of an error's body that are read
_HEADERS = {
    "Accept": "application/octet-stream",
    # Bytes are counted and hashed as they come, so they have to come as they are.
    "Accept-Encoding": "identity",
    "User-Agent": "pytest-dispatch",
}
_PASSING = {Trouble.NETWORK, Trouble.SERVER, Trouble.LIMIT}
_REFUSALS = {401, 403, 404, 451}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19})")  # as many digits as a disk has bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Timeouts and pauses of downloads.

    Attributes:
        timeout: Longest wait for a connection, and for each part of an answer, in seconds.
        pauses: Seconds before each further try; after each MiB of progress they start from the first.
        slowest: Minimum bytes per second, measured over `timeout`; a slower download is cut and tried again.
        limited: Longest total wait for rate limits for one asset, in seconds.
    """

    timeout: float = 30.0
    pauses: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    slowest: float = 1024.0
    limited: float = 600.0


class Downloader:
    """Downloads assets, several at a time, each in the thread of its caller.

    Args:
        token_for: Returns the token for what belongs to an owner at GitHub. It is sent only to its own API, not to the
            target of a redirect, even if only the port differs.
        patience: Timeouts and pauses.
        threads: Runs requests that may hang.
    """

    def __init__(self, token_for: Callable[[str], Token | None], patience: Patience, threads: Threads) -> None:
        self._threads = threads
        self._token_for = token_for
        self._patience = patience
        self._clients: dict[tuple[str, Proxy | None], httpx.Client] = {}
        self._opening = threading.Lock()

    def fetch(self, stop: Stop, wanted: Wanted, file: PartialFile) -> str:
        """Download an asset into `file`, which may already have its beginning.

        Returns:
            The digest in hex digits; size and digest are checked.

        Raises:
            FetchError: The asset cannot be downloaded, or differs in size or digest.
            OSError: The file cannot be written.
            StoppedError: `stop` was set.
        """
        pauses = iter(self._patience.pauses)
        gained, limited = 0, self._patience.limited
        while True:
            try:
                return self._try(stop, wanted, file)
            except PassingError as error:
                if isinstance(error, StartOverError):
                    file.discard(str(error))
                if file.size >= gained + CHUNK:
                    gained, pauses = file.size, iter(self._patience.pauses)
                pause = next(pauses, None) if error.wait is None else error.wait
                limited -= error.wait or 0.0
                if pause is None or limited < 0:
                    raise FetchError(f"{wanted.name}: {error}") from error.__cause__
            if stop.wait(pause):
                raise StoppedError

    def may_read(self, stop: Stop, url: str) -> bool:
        """Return whether the API lets its token, or anybody, read a release asset; True if it does not say.

        Raises:
            StoppedError: `stop` was set.
        """
        wanted = Wanted(name=url, url=url, size=0, digest="")
        try:
            there = _url(wanted, url)
            client = self._leading_to(there)
            answer = self._send(stop, client, client.build_request("GET", there, headers=self._signed(wanted, url)))
            try:
                message = message_of(self._begun(answer)) if answer.status_code in _REFUSALS else ""
            finally:
                answer.close()
        except (FetchError, PassingError, httpx.TransportError):
            return True
        limited = limit_wait(answer.status_code, answer.headers, message) is not None
        return answer.status_code not in _REFUSALS or limited

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()

    def _try(self, stop: Stop, wanted: Wanted, file: PartialFile) -> str:
        try:
            if file.size < wanted.size:
                with self._answer(stop, wanted, file.resume_headers()) as answer:
                    file.begin(_start(wanted, answer, file.size), answer.headers.get("etag", ""))
                    for piece in _pieces(stop, answer, self._patience):
                        file.write(stop, piece)
            return file.finish()
        except httpx.TransportError as error:
            if stop.is_set():
                raise StoppedError from None
            url = error.request.url
            reason = why_unreachable(error, self._patience.timeout, proxy_for(str(url), os.environ))
            have = f" after {file.size} of {wanted.size} bytes" if file.size else ""
            raise PassingError(f"{url.host}{have}: {reason}") from error

    @contextmanager
    def _answer(self, stop: Stop, wanted: Wanted, headers: dict[str, str]) -> Iterator[httpx.Response]:
        url = _url(wanted, wanted.url)
        for _ in range(REDIRECTS + 1):
            client = self._leading_to(url)
            request = client.build_request("GET", url, headers={**headers, **self._signed(wanted, str(url))})
            answer = self._send(stop, client, request)
            try:
                if not answer.has_redirect_location:
                    self._refuse(wanted, answer)
                    yield answer
                    return
            finally:
                answer.close()
            url = redirected(wanted, answer)
        raise FetchError(f"{wanted.name}: expected the asset after at most {REDIRECTS} redirects, got another one")

    def _send(self, stop: Stop, client: httpx.Client, request: httpx.Request) -> httpx.Response:
        """Send a request, and return when the head of the answer is there; abandon a request that takes too long."""
        longest = 2 * self._patience.timeout  # also if the head of the answer trickles in byte by byte
        answer = self._threads.begin(lambda: client.send(request, stream=True))
        ended = threading.Event()
        answer.add_done_callback(lambda _: ended.set())
        with stop.waking(ended.set):
            ended.wait(longest)
        if not answer.done():
            answer.add_done_callback(_leave)
            if stop.is_set():
                raise StoppedError
            raise PassingError(f"{request.url.host}: no answer within {format_duration(longest)}")
        return answer.result()

    def _leading_to(self, url: httpx.URL) -> httpx.Client:
        """Return the client for a URL: the storage may need another proxy than the API, or none."""
        try:
            way = url.scheme, proxy_for(str(url), os.environ)
            with self._opening:
                if way not in self._clients:
                    self._clients[way] = self._client(client_options(str(url), os.environ))
                return self._clients[way]
        except ConfigError as error:
            raise FetchError(str(error)) from None  # the frames of the original hold the environment

    def _client(self, options: dict[str, Any]) -> httpx.Client:
        timeout = self._patience.timeout
        if options.get("proxy") is None:
            return httpx.Client(trust_env=False, transport=Direct(options["verify"], timeout))
        return httpx.Client(timeout=timeout, limits=httpx.Limits(max_connections=None), **options)

    def _signed(self, wanted: Wanted, url: str) -> dict[str, str]:
        token = self._token_for(owner_of(wanted.url))
        if token is None or Origin.of(url) != Origin.of(token.api_url):
            return _HEADERS
        try:
            return {**_HEADERS, "Authorization": f"Bearer {token.reveal()}"}
        except GitHubError as error:  # an App's token is asked for when it is needed
            what = f"there is no token of {token.source}: {error}"
            if error.trouble in _PASSING:
                raise PassingError(what, error.wait) from error
            raise FetchError(f"{wanted.name}: {what}") from error

    def _refuse(self, wanted: Wanted, answer: httpx.Response) -> None:
        """Raise an error unless the answer contains the bytes."""
        status = answer.status_code
        if status in (200, 206):
            return
        host = answer.url.host
        said = f"{host} answered {status} {responses.get(status, '')}"
        if status == 416:
            raise StartOverError(said)
        # A signed URL expires after minutes; a new try gets a new one.
        elsewhere = Origin.of(str(answer.url)) != Origin.of(wanted.url)
        if status >= 500 or status == 408 or (elsewhere and status == 403):
            raise PassingError(said)
        message = message_of(self._begun(answer))
        wait = limit_wait(status, answer.headers, message)
        if wait is not None:
            hint = (
                "" if self._token_for(owner_of(wanted.url)) else "; a token has a limit of its own, which is far higher"
            )
            raise PassingError(f"the rate limit of {host} is used up for {format_duration(wait)}{hint}", wait)
        beyond = no_right_helps(trouble_of(status, message))
        raise FetchError(f"{wanted.name}: {said}{beyond or self._advice(status, wanted.url)}")

    def _begun(self, answer: httpx.Response) -> bytes:
        """Return the beginning of an error's body, as far as it comes in time."""
        data, late = bytearray(), time.monotonic() + self._patience.timeout
        with suppress(httpx.TransportError):
            for piece in answer.iter_raw():
                data += piece
                if len(data) > REFUSAL or time.monotonic() > late:
                    break
        return bytes(data)

    def _advice(self, status: int, url: str) -> str:
        token = self._token_for(owner_of(url))
        if status == 401 and token is not None:
            return f"; is the token from {token.source} expired, revoked or mistyped?"
        if status not in (401, 403, 404):
            return ""
        gone = "it was deleted or replaced after the release was listed, or " if status == 404 else ""
        if token is None:
            return f"; {gone}it is private and needs a token ({ways_to_sign_in(url)})"
        return f"; {gone}the token from {token.source} may not read it (Contents: read)"


def _start(wanted: Wanted, answer: httpx.Response, have: int) -> int:
    """Return the offset in the asset of the first byte of the answer's body."""
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


def _pieces(stop: Stop, answer: httpx.Response, patience: Patience) -> Iterator[bytes]:
    """Yield the body in pieces as it comes.

    Raises:
        StoppedError: `stop` was set, even if no bytes come.
        PassingError: The bytes come too slowly.
    """
    pace = _Pace(patience)
    with stop.waking(lambda: _cut(answer)):
        for piece in answer.iter_raw():
            if stop.is_set():
                raise StoppedError
            yield piece
            if not pace.keeps_up(len(piece)):
                raise PassingError(f"{answer.url.host}: slower than {patience.slowest:g} bytes a second")


def _cut(answer: httpx.Response) -> None:
    """Shut a connection down, to end a read in another thread."""
    connection = answer.extensions["network_stream"].get_extra_info("socket")
    with suppress(OSError):
        if connection is not None:  # None for TLS within TLS: the next byte or the timeout ends the read
            socket.socket.shutdown(
                connection, socket.SHUT_RDWR
            )  # an SSLSocket's own shutdown would send a TLS alert first


def _leave(answer: Future[httpx.Response]) -> None:
    if answer.exception() is None:
        answer.result().close()


class _Pace:
    """Measures whether bytes come fast enough."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since = time.monotonic()
        self._got = 0

    def keeps_up(self, count: int) -> bool:
        """Count received bytes, and return whether they come fast enough."""
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
        FetchError: The target is not an allowed URL, or leads from https to http.
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
