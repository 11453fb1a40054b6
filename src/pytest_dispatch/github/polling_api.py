"""A client of GitHub's REST API for those who look again and again: conditional, concurrent, and with a breaker.

`GitHubApi` sends one request after the other from a thread. A lab that follows runs asks the same things for hours:
an answer that has not changed (304) costs nothing of the hourly limit, a look must be given up at once when the lab
stops, and while GitHub is away or limits requests, none is to be sent at all. PyGithub has none of that.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

import msgspec

from pytest_dispatch.core.secrets import Token
from pytest_dispatch.github.api import PAGE, PAGES, REDIRECTS, GitHubError, Trouble, checked_api_url, refused
from pytest_dispatch.github.rate_limits import HourlyLimit
from pytest_dispatch.support.async_http import AsyncHttp, NoAnswerError, TooLongError
from pytest_dispatch.support.blocking import in_thread
from pytest_dispatch.support.breaker import Breaker
from pytest_dispatch.support.codec import decode
from pytest_dispatch.support.network_errors import Origin, is_safe_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

KEPT = 1024  # answers that are kept to ask whether they have changed
PAUSE = 1.0  # seconds between two writes; GitHub asks for one

_HEADERS = {
    "Accept": "application/vnd.github+json",
    "X-GitHub-Api-Version": "2022-11-28",
}
_MOVED = (301, 302, 307, 308)
_BREAKS = {Trouble.NETWORK, Trouble.SERVER, Trouble.TOKEN, Trouble.STRANGE}

T = TypeVar("T")


class UnreachedError(GitHubError):
    """The request has never left this computer, so that nothing was carried out."""


@dataclass(frozen=True, slots=True)
class _Kept:
    etag: str
    value: Any
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubStanding:
    """How things stand with one GitHub, for one token.

    Attributes:
        host: The host of its API.
        remaining: How many requests it still answers until it counts anew; None if it has not said so.
        limit: How many it answers in an hour; 0 if it has not said so.
        resets: When it counts anew.
        lasts: Seconds that the rest lasts at the rate of this hour; infinite if it lasts until then, None if it
            has not said so or counts anew by now.
        answered: When it last answered; 0 if it never has.
        why: Why no request is sent; empty if requests are.
        until: Until when that is so.
    """

    host: str
    remaining: int | None
    limit: int
    resets: float
    lasts: float | None
    answered: float
    why: str
    until: float


class PollingApi:
    """Asks one GitHub with one token. All of it runs on one event loop.

    While GitHub is away, limits requests or refuses the token, the breaker is open: requests fail at once, until the
    time that GitHub named, or for a pause that doubles with each failure. The next request after that tries again.

    Args:
        api_url: Base URL of the API.
        token: Authenticates every request; None sends anonymous requests.
        now: Returns the time.

    Attributes:
        hourly: What is left of the hourly limit.
        answered: When GitHub last answered; 0 if it never has.

    Raises:
        ConfigError: `api_url` is not the URL of an API.
    """

    def __init__(self, api_url: str, token: Token | None, now: Callable[[], float]) -> None:
        self._base = checked_api_url(api_url)
        self._origin = Origin.of(self._base)
        self._token = token
        self._now = now
        self._http = AsyncHttp(self._base, _HEADERS)
        self._breaker = Breaker(now)
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._wrote = -PAUSE
        self._writing = asyncio.Lock()
        self.hourly = HourlyLimit()
        self.answered = 0.0

    # What may be asked

    @property
    def is_open(self) -> bool:
        """Return whether requests are sent now."""
        return self._breaker.lets_through

    @property
    def closed_until(self) -> float:
        """Return until when no request is sent."""
        return self._breaker.until

    @property
    def why(self) -> str:
        """Return why that is so; empty while nothing is wrong."""
        return self._breaker.why

    @property
    def standing(self) -> GitHubStanding:
        """Return how things stand with this GitHub."""
        now, hourly = self._now(), self.hourly
        return GitHubStanding(
            host=urlsplit(self._base).netloc,
            remaining=hourly.remaining,
            limit=hourly.limit,
            resets=hourly.resets,
            lasts=hourly.lasts(now),
            answered=self.answered,
            why="" if self.is_open else self.why,
            until=self.closed_until,
        )

    def try_now(self) -> None:
        """Send the next request at once after a failure, but not before a time that GitHub has named."""
        self._breaker.try_now()

    @property
    def may_write(self) -> bool:
        """Return whether a write would be sent at once."""
        rested = asyncio.get_running_loop().time() >= self._wrote + PAUSE
        return self.is_open and rested and not self._writing.locked()

    @property
    def spare(self) -> int | None:
        """Return how many looks may still be had before the part begins that is reserved; None if nobody knows."""
        return self.hourly.spare(self._now())

    def interval(self, usual: float) -> float:
        """Return the seconds between two looks: longer than usual as the budget shrinks."""
        return self.hourly.interval(usual, self._now())

    # Requests

    async def get(self, path: str, shape: type[T], **parameters: str) -> T:
        """Return one object; one that has not changed is not sent again.

        Raises:
            GitHubError: See `Trouble`.
        """
        value, _ = await self._read(path, self._url(path, parameters), shape)
        return value

    async def pages(
        self, path: str, shape: type[T], enough: Callable[[T], bool] = lambda _page: False, **parameters: str
    ) -> list[T]:
        """Return all pages of a list, or those up to the first one that is enough.

        Raises:
            GitHubError: See `Trouble`.
        """
        found: list[T] = []
        url: str | None = self._url(path, {"per_page": str(PAGE), **parameters})
        while url is not None:
            if len(found) == PAGES:
                raise GitHubError(f"{self._origin.host}: GET {path} comes to no end", Trouble.STRANGE)
            value, after = await self._read(path, url, shape)
            found.append(value)
            url = None if enough(value) else self._on_this_server(url, after)
        return found

    async def post(self, path: str, body: Mapping[str, object], *, at_once: bool = False) -> bytes:
        """Write, a second after the last write at the earliest unless it is to be at once, and without retries.

        Raises:
            UnreachedError: Nothing was sent.
            GitHubError: See `Trouble`.
        """
        if at_once:
            return (await self._sent("POST", path, self._url(path, {}), {}, body)).content
        async with self._writing:
            loop = asyncio.get_running_loop()
            await asyncio.sleep(max(0.0, self._wrote + PAUSE - loop.time()))
            try:
                answer = await self._sent("POST", path, self._url(path, {}), {}, body)
            finally:
                self._wrote = loop.time()
            return answer.content

    async def text(self, path: str, most: int) -> str:
        """Return the end of a text that GitHub keeps in a storage, which does not get the token.

        Args:
            path: Where the API has it.
            most: How many bytes of its end; the rest passes through, and is not kept.

        Raises:
            GitHubError: See `Trouble`.
        """
        url = self._url(path, {})
        for _ in range(REDIRECTS):
            answer = await self._sent("GET", path, url, {}, None, most)
            if answer.status_code not in _MOVED:
                text = answer.content.decode(errors="replace")
                return text if self._token is None else self._token.scrub(text)
            url = urljoin(url, answer.headers.get("location", ""))
            if not is_safe_url(url):
                break
        raise GitHubError(f"{self._origin.host} redirects GET {path} to where nothing is fetched from", Trouble.STRANGE)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _read(self, path: str, url: str, shape: type[T]) -> tuple[T, str | None]:
        """Return what is at a URL, and the next page's."""
        kept = self._kept.get(url)
        condition = {"If-None-Match": kept.etag} if kept is not None else {}
        answer = await self._sent("GET", path, url, condition, None)
        if answer.status_code in _MOVED:
            moved = urljoin(url, answer.headers.get("location", ""))
            if Origin.of(moved) != self._origin or moved == url:
                raise GitHubError(f"{self._origin.host} redirects GET {path} to another server", Trouble.REFUSED)
            answer = await self._sent("GET", path, moved, {}, None)
        if answer.status_code == 304 and kept is not None:
            self._kept.move_to_end(url)
            return kept.value, kept.after
        value = self._decoded(path, answer.content, shape)
        after = answer.links.get("next", {}).get("url")
        if etag := answer.headers.get("etag"):
            self._kept[url] = _Kept(etag, value, after)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return value, after

    def _decoded(self, path: str, data: bytes, shape: type[T]) -> T:
        try:
            return decode(data, shape)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            what = f"{self._origin.host} answered GET {path} with something that is not GitHub's ({error})"
            raise self._failed(GitHubError(what, Trouble.STRANGE)) from None

    async def _sent(
        self,
        verb: str,
        path: str,
        url: str,
        headers: Mapping[str, str],
        body: Mapping[str, object] | None,
        last: int = 0,
    ) -> httpx.Response:
        """Return an answer that is no refusal, or its last bytes; keep the books of limits and of the breaker."""
        if not self.is_open:
            raise UnreachedError(self.why, Trouble.NETWORK, wait=self._breaker.left)
        own = Origin.of(url) == self._origin
        try:
            signed = await self._signed() if own else {}
        except GitHubError as error:  # of the App that gives the token
            raise self._failed(UnreachedError(str(error), Trouble.TOKEN, wait=error.wait)) from None
        try:
            answer = await self._http.send(verb, url, {**headers, **signed}, last, json=body)
        except NoAnswerError as error:
            kind = GitHubError if error.sent else UnreachedError
            raise self._failed(kind(str(error), Trouble.NETWORK)) from None
        except TooLongError as error:
            raise GitHubError(str(error), Trouble.STRANGE) from None
        if own:
            self.hourly.count(answer.headers, self._now())
        if answer.status_code >= 400:
            call = f"{verb} {path}"
            raise self._failed(
                refused(call, self._base, self._token, answer.status_code, answer.headers, answer.content)
            )
        self._breaker.worked()
        self.answered = self._now()
        return answer

    async def _signed(self) -> dict[str, str]:
        token = self._token
        if token is None:
            return {}
        value = token.reveal() if type(token) is Token else await in_thread(lambda _stop: token.reveal())
        return {"Authorization": f"Bearer {value}"}

    # The books

    def _failed(self, error: GitHubError) -> GitHubError:
        """Open the breaker if the error is about all requests, and return it."""
        if error.trouble is Trouble.LIMIT:
            self._breaker.asked_to_wait(str(error), error.wait or 0.0)
        elif error.trouble in _BREAKS:
            self._breaker.failed(str(error), error.wait)
        return error

    def _url(self, path: str, parameters: Mapping[str, str]) -> str:
        query = f"?{urlencode(parameters)}" if parameters else ""
        return f"{self._base}{path}{query}"

    def _on_this_server(self, here: str, link: str | None) -> str | None:
        """Return the URL of the next page on this server, even if the link has a wrong scheme or port."""
        if link is None:
            return None
        home, page = urlsplit(self._base), urlsplit(urljoin(here, link))
        return urlunsplit((home.scheme, home.netloc, page.path, page.query, ""))


class PollingApis:
    """The clients of one GitHub, one for each token.

    Args:
        api_url: Base URL of its API.
        token_for: Returns the token for what belongs to an owner.
        now: Returns the time.
    """

    def __init__(self, api_url: str, token_for: Callable[[str], Token | None], now: Callable[[], float]) -> None:
        self.api_url = api_url
        self._token_for = token_for
        self._now = now
        self._apis: dict[Token | None, PollingApi] = {}

    def of(self, owner: str) -> PollingApi:
        """Return the client for what belongs to an owner."""
        token = self._token_for(owner)
        if token not in self._apis:
            self._apis[token] = PollingApi(self.api_url, token, self._now)
        return self._apis[token]

    def try_now(self) -> None:
        """Ask at once again after failures, but not before a time that GitHub has named."""
        for api in self._apis.values():
            api.try_now()

    @property
    def standings(self) -> list[GitHubStanding]:
        """Return how things stand with it, for each token."""
        return [api.standing for api in self._apis.values()]

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(api.aclose() for api in self._apis.values()))
