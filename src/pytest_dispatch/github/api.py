"""A client of GitHub's REST API: it takes paths, returns checked values, and raises one kind of error.

An answer has a maximum size, and is decoded into a declared type or refused. Redirects and next pages are requested
only from the same server. PyGithub does none of that: it decompresses any answer, follows any URL, and trusts other
certificates than our downloads do.
"""

from __future__ import annotations

import math
import re
import time
from enum import StrEnum
from http.client import responses
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

import msgspec

from pytest_dispatch.beacon.urls import is_url
from pytest_dispatch.core.errors import ConfigError, DispatchError
from pytest_dispatch.core.secrets import PUBLIC_API
from pytest_dispatch.github.http_client import Answer, HttpClient, NoAnswerError, UnusableError
from pytest_dispatch.github.rate_limits import limit_text, limit_wait
from pytest_dispatch.support.codec import decode
from pytest_dispatch.support.network_errors import Origin, is_safe_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from pytest_dispatch.core.secrets import Token

PAGE = 100  # entries per page; GitHub's maximum
PAGES = 1000  # maximum number of pages of one list
REDIRECTS = 5  # maximum number of redirects of one request

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*/(?!\.{1,2}$)[A-Za-z0-9._-]+")

T = TypeVar("T")


class Trouble(StrEnum):
    """The reason why a request failed."""

    NETWORK = "network"  # no answer, or an incomplete one: GitHub may still have carried the request out
    SERVER = "server"  # 5xx: GitHub may still have carried the request out
    LIMIT = "limit"  # a rate limit: not carried out
    TOKEN = "token"  # 401  # noqa: S105 - the name of a reason, not a secret
    FORBIDDEN = "forbidden"  # 403 for any reason without a name of its own here
    ARCHIVED = "archived"  # 403: the repository is read-only
    BLOCKED = "blocked"  # 403 or 451: GitHub has blocked all access to the repository
    MISSING = "missing"  # 404, also if the token has no access
    GONE = "gone"  # 410: the feature is disabled
    REFUSED = "refused"  # any other status: a retry will not help
    STRANGE = "strange"  # an answer that GitHub would not give


_MOVED = (301, 302, 307, 308)

_TROUBLES = {
    401: Trouble.TOKEN,
    403: Trouble.FORBIDDEN,
    404: Trouble.MISSING,
    410: Trouble.GONE,
}

#: Words in GitHub's refusals that no permission of a token can change.
_SAID = {
    "archived": Trouble.ARCHIVED,  # "Repository was archived so is read-only."
    "access blocked": Trouble.BLOCKED,  # "Repository access blocked"
}


class Complaint(msgspec.Struct, frozen=True):
    """A validation error in a request's body (an entry of a 422's `errors`)."""

    resource: str = ""
    field: str = ""
    code: str = ""
    message: str | None = None
    value: Any = None


class GitHubError(DispatchError):
    """A request that GitHub did not fulfil.

    Attributes:
        trouble: Why the request failed.
        status: Status of GitHub's answer; 0 if there was none.
        wait: Seconds after which a retry is allowed, if GitHub said so.
        complaints: Validation errors in the request's body.
    """

    def __init__(
        self,
        message: str,
        trouble: Trouble,
        *,
        status: int = 0,
        wait: float | None = None,
        complaints: tuple[Complaint, ...] = (),
    ) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.status = status
        self.wait = wait
        self.complaints = complaints


class GitHubApi:
    """Sends requests to one GitHub, one after the other, from one thread at a time.

    Reads are retried if the server fails or drops the connection. Writes never are, because a write whose answer was
    lost may have been carried out. A rate limit is an error at once. Redirects, for example of a renamed repository,
    are followed only on the same server, so that the token goes to no other.

    Args:
        api_url: `https://api.github.com`, or `https://HOST/api/v3` for GitHub Enterprise Server.
        token: Authenticates every request; None sends anonymous requests.
        timeout: Seconds to wait for a connection, and for each part of an answer; a request as a whole may take
            four times as long.
        pause: Seconds between two writes; GitHub asks for one
            (https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api).

    Attributes:
        requests_left: How many requests GitHub still answers until it counts anew, as it said last; None if it never
            did.

    Raises:
        ConfigError: `api_url` is not the URL of an API.
    """

    def __init__(self, api_url: str, token: Token | None, *, timeout: float = 15, pause: float = 1.0) -> None:
        self._base = checked_api_url(api_url)
        self._origin = Origin.of(self._base)
        self._token = token
        self._http = HttpClient(self._base, timeout)
        self._pause = pause
        self._wrote = -math.inf
        self.requests_left: int | None = None

    def get(self, path: str, shape: type[T], **parameters: str) -> T:
        """Read one object.

        Raises:
            GitHubError: See `Trouble`.
        """
        call = f"GET {path}"
        return self._decode(call, self._request(call, self._url(path, parameters)).data, shape)

    def pages(self, path: str, shape: type[T], **parameters: str) -> Iterator[T]:
        """Read a list; each page is requested when the iteration reaches it.

        Raises:
            GitHubError: See `Trouble`.
        """
        call, asked = f"GET {path}", set[str]()
        url: str | None = self._url(path, {"per_page": str(PAGE), **parameters})
        while url is not None:
            if url in asked or len(asked) == PAGES:
                text = f"{self._origin.host} answered {call} with pages that come to no end"
                raise GitHubError(text, Trouble.STRANGE)
            asked.add(url)
            answer = self._request(call, url)
            yield from self._decode(call, answer.data, list[shape])  # type: ignore[valid-type] # known at run time
            url = self._on_this_server(url, answer.next_page)

    def post(self, path: str, body: Mapping[str, object], shape: type[T]) -> T:
        """Write one object, without retries.

        Raises:
            GitHubError: See `Trouble`.
        """
        return self._write("POST", path, body, shape)

    def patch(self, path: str, body: Mapping[str, object], shape: type[T]) -> T:
        """Change some fields of one object, without retries.

        Raises:
            GitHubError: See `Trouble`.
        """
        return self._write("PATCH", path, body, shape)

    def _write(self, verb: str, path: str, body: Mapping[str, object], shape: type[T]) -> T:
        time.sleep(max(0.0, self._wrote + self._pause - time.monotonic()))
        call = f"{verb} {path}"
        try:
            return self._decode(call, self._request(call, self._url(path), body).data, shape)
        finally:
            self._wrote = time.monotonic()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _url(self, path: str, parameters: Mapping[str, str] = MappingProxyType({})) -> str:
        query = f"?{urlencode(parameters)}" if parameters else ""
        return f"{self._base}{path}{query}"

    def _request(self, call: str, url: str, body: Mapping[str, object] | None = None) -> Answer:
        there = url
        for _ in range(REDIRECTS + 1):
            answer = self._asked(call.partition(" ")[0], there, body)
            if answer.status not in _MOVED or "location" not in answer.headers:
                if answer.status >= 300:
                    raise self._failed(call, answer)
                return answer
            there = self._moved(there, answer.headers["location"])
        text = f"{self._origin.host}: expected an answer after at most {REDIRECTS} redirects, got another one"
        raise GitHubError(text, Trouble.REFUSED)

    def _asked(self, verb: str, url: str, body: Mapping[str, object] | None) -> Answer:
        try:
            answer = self._http.request(verb, url, self._signed(), body)
        except NoAnswerError as error:
            raise GitHubError(f"{self._origin.host} cannot be reached: {error}", Trouble.NETWORK) from None
        except UnusableError as error:
            raise GitHubError(f"{self._origin.host}: {error}", Trouble.STRANGE) from None
        if (left := answer.headers.get("x-ratelimit-remaining", "")).isdecimal():
            self.requests_left = int(left)
        return answer

    def _signed(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token.reveal()}"} if self._token else {}

    def _moved(self, here: str, location: str) -> str:
        try:
            url = urljoin(here, location)
        except ValueError:  # for example `http://[`
            url = location
        if not is_url(url) or Origin.of(url) != self._origin:
            shown = self._own(url.partition("?")[0])  # the query may contain a signature
            text = f"{self._origin.host} redirects to another server, {shown}: the token is not for that one"
            raise GitHubError(text, Trouble.REFUSED)
        return url

    def _on_this_server(self, here: str, link: str | None) -> str | None:
        """Return the URL of the next page on this server, even if the link has a wrong scheme or port.

        Behind a proxy, a server may not know the scheme and port that its clients use.
        """
        if link is None:
            return None
        try:
            url = urljoin(here, link)
        except ValueError:
            url = link
        if not is_url(url) or Origin.of(url).host.rstrip(".") != self._origin.host:
            text = f"{self._origin.host} says that its next page is elsewhere: {self._own(url.partition('?')[0])}"
            raise GitHubError(text, Trouble.STRANGE)
        home, page = urlsplit(self._base), urlsplit(url)
        return urlunsplit((home.scheme, home.netloc, page.path, page.query, ""))

    def _failed(self, call: str, response: Answer) -> GitHubError:
        return refused(call, self._base, self._token, response.status, response.headers, response.data)

    def _decode(self, call: str, data: bytes, shape: type[T]) -> T:
        try:
            return decode(data, shape)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise GitHubError(
                f"{self._origin.host} answered {call} with something that is not GitHub's ({error});"
                f" is {self._base} the address of its API?",
                Trouble.STRANGE,
            ) from None

    def _own(self, words: str) -> str:
        return _scrubbed(words, self._token)


def refused(
    call: str, base: str, token: Token | None, status: int, headers: Mapping[str, str], data: bytes
) -> GitHubError:
    """Return the error for an answer that is a refusal.

    Args:
        call: Method and path of the request.
        base: Base URL of the API.
        token: What authenticated it, if anything did.
        status: The answer's status.
        headers: Its headers.
        data: Its body.
    """
    host, answer = Origin.of(base).host, _refusal(data)
    words = [answer.message, *(each.message or "" for each in answer.errors)] if answer else []
    wait = limit_wait(status, headers, " ".join(words))
    if wait is not None and status < 500:
        return GitHubError(limit_text(host, wait, has_token=token is not None), Trouble.LIMIT, status=status, wait=wait)
    said = f"{host} answered {call} with {status} {responses.get(status, '')}"
    if status >= 500:
        return GitHubError(said, Trouble.SERVER, status=status, wait=wait)
    if answer is None:
        text = f"{said}, and not in GitHub's words; is {base} the address of its API?"
        return GitHubError(text, Trouble.STRANGE, status=status)
    details = [_scrubbed(words, token) for words in (answer.message, *map(_spoken, answer.errors))]
    text = ": ".join([said, *filter(None, details)])
    return GitHubError(text, trouble_of(status, answer.message), status=status, complaints=tuple(answer.errors))


def _scrubbed(words: str, token: Token | None) -> str:
    """Return a server's text as one line of limited length, without the token."""
    line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    scrubbed = token.scrub(line) if token else line
    return scrubbed if len(scrubbed) <= 300 else f"{scrubbed[:297]}..."


class _Said(msgspec.Struct):
    message: str


class _Refusal(_Said):
    errors: list[Complaint] = []


def _refusal(data: bytes) -> _Refusal | None:
    """Return a refusal in GitHub's format; None if the answer has another format."""
    try:
        refusal = decode(data, dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    errors = refusal.get("errors")
    told = errors if isinstance(errors, list) else [errors]  # sometimes one string, or a list of strings
    spoken = [{"message": each} if isinstance(each, str) else each for each in told]
    for said in (spoken, []):
        try:
            return msgspec.convert({"message": refusal.get("message"), "errors": said}, _Refusal)
        except msgspec.ValidationError:
            continue
    return None


def _spoken(complaint: Complaint) -> str:
    words = (complaint.field, complaint.message or complaint.code.replace("_", " "))
    return " ".join(word for word in words if word)


def trouble_of(status: int, message: str) -> Trouble:
    """Return the reason for a refusal, from a status below 500 that is no rate limit, and GitHub's message."""
    if status in (403, 451):
        for words, trouble in _SAID.items():
            if words in message.lower():
                return trouble
    return _TROUBLES.get(status, Trouble.REFUSED)


def message_of(data: bytes) -> str:
    """Return GitHub's message in a refusal; empty if there is none."""
    answer = _refusal(data)
    return answer.message if answer else ""


def no_right_helps(trouble: Trouble) -> str:
    """Return advice to append to an error that no token permission can fix; empty for other errors."""
    hints = {
        Trouble.ARCHIVED: "; it is archived, which no token changes: let its owner unarchive it, or name another one",
        Trouble.BLOCKED: "; GitHub has blocked it, which no token changes: ask its owner, or name another one",
    }
    return hints.get(trouble, "")


def is_repo(text: str) -> bool:
    """Return whether the text has the form `OWNER/REPO`, and so is safe in a path."""
    return _REPO.fullmatch(text) is not None


def checked_api_url(text: str) -> str:
    """Return the base URL of an API, without a slash at its end.

    Raises:
        ConfigError: The text is not an http(s) URL with a host and without user, query and fragment; or it is http to
            another computer.
    """
    parts = urlsplit(text) if is_url(text) else None
    if parts is None or parts.username is not None or parts.query or parts.fragment:
        shown = re.sub("(//[^/@:]*:)[^/]*@", r"\1***@", text)  # do not show its password
        raise ConfigError(f"expected the URL of a GitHub API such as {PUBLIC_API}, got {shown!r}")
    if not is_safe_url(text):
        raise ConfigError(f"expected https://, because http:// would send the token unencrypted, got {text!r}")
    return text.rstrip("/")
