"""A client of a service with an HTTP API: each request has a deadline, each failure one line, and a breaker."""

from __future__ import annotations

from http.client import responses
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import msgspec

from pytest_dispatch.core.errors import ConfigError, DispatchError
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.secrets import without_userinfo
from pytest_dispatch.support.async_http import AsyncHttp, NoAnswerError, TooLongError
from pytest_dispatch.support.breaker import Breaker
from pytest_dispatch.support.codec import decode
from pytest_dispatch.support.network_errors import Origin, is_safe_url

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import httpx

    from pytest_dispatch.core.secrets import Token

DEADLINE = 30.0  # longest duration of a whole request, in seconds

_LIMITED = 429
_WORDS = 200  # most characters of what a service says of a refusal

T = TypeVar("T")


class ServiceError(DispatchError):
    """A request that a service did not fulfil; the text names the service, the request and the answer.

    Attributes:
        status: Status of the answer; 0 if there was none.
        sent: Whether the request may have been carried out.
    """

    def __init__(self, text: str, *, status: int = 0, sent: bool = True) -> None:
        super().__init__(text)
        self.status = status
        self.sent = sent

    @property
    def passes(self) -> bool:
        """Return whether it may be over soon: the service is away, overloaded, or not asked just now."""
        return self.status == 0 or self.status >= 500 or self.status == _LIMITED


class ServiceClient:
    """Asks one service. All of it runs on one event loop.

    Args:
        name: How people call it: `MAAS`.
        base: Base URL of its API, without a slash at its end.
        now: Returns the time.
        secret: What must not be in any text, if anything.
    """

    def __init__(self, name: str, base: str, now: Callable[[], float], secret: Token | None = None) -> None:
        self.name = name
        self._base = base
        self._secret = secret
        self._host = Origin.of(base).host
        self._http = AsyncHttp(base, {"Accept": "application/json"}, DEADLINE)
        self.breaker = Breaker(now)

    async def ask(
        self,
        verb: str,
        path: str,
        headers: Mapping[str, str],
        *,
        query: Sequence[tuple[str, str]] = (),
        fine: Collection[int] = (200,),
        slow: float = 0.0,
        **body: Any,
    ) -> httpx.Response:
        """Return the answer to a request; nothing is retried.

        Args:
            verb: The method.
            path: The path, from the base URL on.
            headers: Headers that sign it.
            query: Its query.
            fine: Statuses that are no failure.
            slow: Seconds within which the answer comes, if it is known to take longer than others.
            body: `json` or `data`, as httpx has them.

        Raises:
            ServiceError: No answer, or one with another status.
        """
        if not self.breaker.lets_through:
            raise ServiceError(self.breaker.why, sent=False)
        url = f"{self._base}{path}{'?' if query else ''}{urlencode(query)}"
        try:
            answer = await self._http.send(verb, url, headers, slow=slow, **body)
        except NoAnswerError as error:
            raise self._broken(ServiceError(f"{self.name} at {error}", sent=error.sent)) from None
        except TooLongError as error:
            raise self._broken(ServiceError(f"{self.name} at {error}")) from None
        status = answer.status_code
        if status in fine:
            self.breaker.worked()
            return answer
        failed = ServiceError(self.told(verb, path, answer), status=status, sent=status >= 500)
        if failed.passes:
            raise self._broken(failed, _seconds(answer))
        self.breaker.worked()
        raise failed

    def decoded(self, answer: httpx.Response, shape: type[T]) -> T:
        """Return what an answer holds.

        Raises:
            ServiceError: It is not what the service sends.
        """
        try:
            return decode(answer.content, shape)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            text = f"{self.name} at {self._host} answered with something that is not {self.name}'s ({error})"
            raise self._broken(ServiceError(plain_line(text, 300))) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _broken(self, error: ServiceError, pause: float | None = None) -> ServiceError:
        self.breaker.failed(str(error), pause)
        return error

    def told(self, verb: str, path: str, answer: httpx.Response) -> str:
        """Return an answer that is a refusal in one line."""
        status = answer.status_code
        said = f"{self.name} at {self._host} answered {verb} {path} with {status} {responses.get(status, '')}".rstrip()
        if 300 <= status < 400:
            return f"{said}, which is not followed; is its address right?"
        words = plain_line(_words(answer), _WORDS)
        words = self._secret.scrub(words) if self._secret is not None else words
        return f"{said}: {words}" if words else said


def _words(answer: httpx.Response) -> str:
    """Return what a refusal says; nothing of a web page."""
    text = answer.content[:4096].decode(errors="replace").strip()
    if text.startswith("<"):
        return ""
    try:
        told = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError):
        return text
    if not isinstance(told, dict):
        return text
    message, detail = told.get("message"), told.get("detail")
    if not isinstance(message, str):
        return text
    return f"{message}: {msgspec.json.encode(detail).decode()}" if detail else message


def _seconds(answer: httpx.Response) -> float | None:
    """Return after how many seconds the service wants to be asked again, if it says so."""
    after = answer.headers.get("retry-after", "")
    return min(float(after), 3600.0) if after.isdecimal() else None


def read_base(where: str, given: str) -> str:
    """Return the base URL of a service, without a slash at its end.

    Args:
        where: Where it was set, for the message.
        given: What was set.

    Raises:
        ConfigError: It is no URL, or what is sent there could be read by others.
    """
    text = given.strip()
    if not is_safe_url(text) or "?" in text or "#" in text or "@" in text:
        shown = without_userinfo(text)[:80]
        raise ConfigError(f"{where}: expected an https:// address (http:// for this computer alone), got {shown!r}")
    return text.rstrip("/")
