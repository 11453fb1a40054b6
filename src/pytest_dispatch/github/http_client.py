"""Sends one HTTP request to GitHub with limits on time and size; retries failed reads, but never writes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.support.daemon_thread import in_daemon
from pytest_dispatch.support.transport import client_options, proxy_for, why_unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from pytest_dispatch.support.transport import Proxy

LARGEST = 64 * 2**20  # maximum size of an answer in bytes: enough for a page of 100 issues with the longest texts
WHOLE = 4  # longest duration of a whole request, in multiples of its timeout, even if the answer keeps trickling in

_AGAIN = (0.0, 1.0)  # seconds before each retry of a read: two retries if the server failed, one if it disconnected
_HEADERS = {
    "Accept": "application/vnd.github+json",
    "Accept-Encoding": "identity",  # a compressed answer could expand to any size
    "User-Agent": "pytest-dispatch",
    "X-GitHub-Api-Version": "2022-11-28",
}


class NoAnswerError(Exception):
    """No answer came, or an incomplete one; the request may still have been carried out."""


class UnusableError(Exception):
    """The answer cannot be used."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer.

    Attributes:
        next_page: URL of the next page in the `Link` header, unchecked.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes
    next_page: str | None


class HttpClient:
    """Connections to one server of GitHub.

    Args:
        base: A URL of the server.
        timeout: Seconds to wait for a connection, and for each part of an answer; a request as a whole may take
            `WHOLE` times as long.
    """

    def __init__(self, base: str, timeout: float) -> None:
        self._base = base
        self._timeout = timeout
        self._proxy: Proxy | None = None
        self._client: httpx.Client | None = None

    def request(self, verb: str, url: str, headers: Mapping[str, str], body: Mapping[str, object] | None) -> Answer:
        """Send one request; redirects are not followed.

        Args:
            verb: The method; only `GET` is retried.
            url: A URL on the same server.
            headers: Headers in addition to the default ones.
            body: The body, sent as JSON.

        Raises:
            NoAnswerError: No answer came; the text says why.
            UnusableError: The answer is too long, or compressed.
        """
        longest = WHOLE * self._timeout
        deadline = time.monotonic() + longest
        try:
            return in_daemon(lambda: self._tried(verb, url, headers, body, deadline), "github").result(longest)
        except TimeoutError:
            raise self._late() from None
        except (NoAnswerError, UnusableError) as error:
            # Drop the library's frames, whose locals include the headers, and so the token.
            raise error.with_traceback(None) from None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def _tried(
        self, verb: str, url: str, headers: Mapping[str, str], body: Mapping[str, object] | None, deadline: float
    ) -> Answer:
        import httpx

        for pause in (*_AGAIN, None) if verb == "GET" else (None,):
            try:
                answer = self._answered(verb, url, headers, body, deadline)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                cut = isinstance(error, (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError))
                if not cut or pause != _AGAIN[0]:
                    raise NoAnswerError(why_unreachable(error, self._timeout, self._proxy)) from None
            else:
                if answer.status < 500 or pause is None:
                    return answer
            time.sleep(pause or 0.0)
        raise AssertionError("the last try returns or raises")

    def _answered(
        self, verb: str, url: str, headers: Mapping[str, str], body: Mapping[str, object] | None, deadline: float
    ) -> Answer:
        with self._connected().stream(verb, url, json=body, headers={**_HEADERS, **headers}) as answer:
            data = self._read(answer, deadline)
            return Answer(answer.status_code, answer.headers, data, answer.links.get("next", {}).get("url"))

    def _connected(self) -> httpx.Client:
        """Return the client; create it with the first request, in its thread, as loading certificates takes long."""
        import httpx

        if self._client is None:
            try:
                self._proxy = proxy_for(self._base, os.environ)
                self._client = httpx.Client(timeout=self._timeout, **client_options(self._base, os.environ))
            except ConfigError as error:
                raise NoAnswerError(str(error)) from None  # the error's frames contain the environment
        return self._client

    def _read(self, answer: httpx.Response, deadline: float) -> bytes:
        encoding = answer.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise UnusableError(f"expected an uncompressed answer, it is compressed as {plain_line(encoding, 40)!r}")
        data = bytearray()
        for piece in answer.iter_raw():
            data += piece
            if len(data) > LARGEST:
                raise UnusableError(f"expected an answer of at most {LARGEST} bytes, got more")
            if time.monotonic() > deadline:
                raise self._late()
        return bytes(data)

    def _late(self) -> NoAnswerError:
        return NoAnswerError(f"no whole answer within {format_duration(WHOLE * self._timeout)}")
