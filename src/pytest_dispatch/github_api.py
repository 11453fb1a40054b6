"""GitHub's REST API as the rest of the package sees it: a path in, checked values out, one kind of error.

PyGithub speaks: signing in, connections, repeating reads, pausing between writes. Its object layer is
not used, because it follows whatever URL an answer names and takes an answer's shape on trust; here an
answer is decoded into a declared type, or refused, and a redirect is followed on the same server alone.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http.client import responses
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import ConfigError, DispatchError
from pytest_dispatch.core.token import PUBLIC_API
from pytest_dispatch.daemon import in_daemon
from pytest_dispatch.network import Origin, is_web_url, limit_wait, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from urllib3.util.retry import Retry

    from pytest_dispatch.core.token import Token

USER_AGENT = "pytest-dispatch"
PAGE = 100  # entries; the most that GitHub gives at once
REDIRECTS = 5
WHOLE = 4  # timeouts that a request may take as a whole, however busily its answer trickles in

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*/(?!\.{1,2}$)[A-Za-z0-9._-]+")

T = TypeVar("T")


class Trouble(StrEnum):
    """What kept a request from its answer."""

    NETWORK = "network"  # no answer, or not all of it: it may still have been carried out
    SERVER = "server"  # 5xx: likewise
    LIMIT = "limit"  # a rate limit: not carried out
    TOKEN = "token"  # 401  # noqa: S105 - the name of a trouble, no secret
    FORBIDDEN = "forbidden"  # 403 that is no rate limit
    MISSING = "missing"  # 404, also for what the token may not see
    GONE = "gone"  # 410: switched off
    REFUSED = "refused"  # any other status: asking again will not help
    STRANGE = "strange"  # an answer, but none that GitHub gives


_MOVED = (301, 302, 307, 308)

_TROUBLES = {
    401: Trouble.TOKEN,
    403: Trouble.FORBIDDEN,
    404: Trouble.MISSING,
    410: Trouble.GONE,
}


class Complaint(msgspec.Struct, frozen=True):
    """One thing that GitHub found wrong with what it was sent (an entry of a 422's `errors`)."""

    resource: str = ""
    field: str = ""
    code: str = ""
    message: str | None = None
    value: Any = None


class GitHubError(DispatchError):
    """A request that GitHub did not fulfil.

    Attributes:
        trouble: What kept it.
        status: What GitHub answered; 0 where nothing came.
        wait: Seconds after which it may be asked again, where GitHub said so.
        complaints: What GitHub found wrong with the request's body.
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
    """Requests to one GitHub, one after the other, from one thread at a time.

    Reads are repeated when the server fails or cuts the connection; writes never, since a write whose
    answer was lost may have been carried out. A rate limit is an error at once. What was moved, as a renamed
    repository is, is followed where it is on the same server: the token goes to no other.

    Args:
        api_url: `https://api.github.com`, or `https://HOST/api/v3` for GitHub Enterprise Server.
        token: Signs every request; `None` asks as anybody.
        timeout: Seconds to wait for a connection, and for each part of an answer; a request as a whole may take
            four times as long.
        pause: Seconds between two writes; GitHub asks for one
            (https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api).

    Raises:
        ConfigError: `api_url` is no URL of an API.
    """

    def __init__(self, api_url: str, token: Token | None, *, timeout: float = 15, pause: float = 1.0) -> None:
        self._base = checked_api_url(api_url)
        self._origin = Origin.of(self._base)
        self._token = token
        self._timeout = timeout
        self._github = _connect(self._base, token, pause)
        self._line = _line(self._base, timeout)

    def get(self, path: str, shape: type[T], **parameters: str) -> T:
        """Read one thing.

        Raises:
            GitHubError: See `Trouble`.
        """
        return self._decode(f"GET {path}", self._request("GET", path, parameters)[1], shape)

    def pages(self, path: str, shape: type[T], **parameters: str) -> Iterator[T]:
        """Read a list, page after page as it is consumed.

        Raises:
            GitHubError: See `Trouble`.
        """
        there: str | None = path
        asked = {"per_page": str(PAGE), **parameters}
        while there is not None:
            headers, data = self._request("GET", there, asked)
            yield from self._decode(f"GET {path}", data, list[shape])  # type: ignore[valid-type] # known at run time
            there, asked = self._next(headers), {}

    def post(self, path: str, body: Mapping[str, object], shape: type[T]) -> T:
        """Write one thing, once.

        Raises:
            GitHubError: See `Trouble`.
        """
        return self._decode(f"POST {path}", self._request("POST", path, {}, body)[1], shape)

    def close(self) -> None:
        """Drop the connections."""
        self._line.close()
        self._github.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(
        self, verb: str, path: str, parameters: dict[str, str], body: Mapping[str, object] | None = None
    ) -> tuple[Mapping[str, str], object]:
        there = path
        for _ in range(REDIRECTS + 1):
            status, headers, text = self._asked(verb, there, parameters, body)
            if status not in _MOVED or "location" not in headers:
                data = _parsed(text)
                if status >= 300:
                    raise self._failed(f"{verb} {path}", status, headers, data)
                return headers, data
            there = self._moved(there, headers["location"])
        text = f"{self._origin.host}: expected an answer after at most {REDIRECTS} redirects, got another one"
        raise GitHubError(text, Trouble.REFUSED)

    def _asked(
        self, verb: str, there: str, parameters: dict[str, str], body: Mapping[str, object] | None
    ) -> tuple[int, Mapping[str, str], str]:
        ask: Callable[..., tuple[int, Mapping[str, str], str]] = self._github.requester.requestJson
        longest = WHOLE * self._timeout
        try:
            request = in_daemon(lambda: ask(verb, there, parameters=parameters, input=body, cnx=self._line), "github")
            return request.result(longest)
        except TimeoutError:
            text = f"{self._origin.host} cannot be reached: no whole answer within {format_duration(longest)}"
            raise GitHubError(text, Trouble.NETWORK) from None
        except OSError as error:  # which every error of `requests` is
            # Not chained: the library's error holds the request, and the request holds the token.
            raise self._unreachable(error) from None

    def _moved(self, path: str, location: str) -> str:
        url = urljoin(path if "://" in path else f"{self._base}{path}", location)
        if not is_web_url(url) or Origin.of(url) != self._origin:
            text = f"{self._origin.host} redirects to another server, {self._own(url)}: the token is not for that one"
            raise GitHubError(text, Trouble.REFUSED)
        return url

    def _unreachable(self, error: Exception) -> GitHubError:
        reason = reason_of(error, self._timeout)
        return GitHubError(f"{self._origin.host} cannot be reached: {reason}", Trouble.NETWORK)

    def _failed(self, call: str, status: int, headers: Mapping[str, str], data: object) -> GitHubError:
        answer = _refusal(data)
        words = [answer.message, *(each.message or "" for each in answer.errors)] if answer else []
        wait = limit_wait(status, headers, " ".join(words))
        if wait is not None and status < 500:
            return GitHubError(self._limited(wait), Trouble.LIMIT, status=status, wait=wait)
        said = f"{self._origin.host} answered {call} with {status} {responses.get(status, '')}"
        if status >= 500:
            return GitHubError(said, Trouble.SERVER, status=status, wait=wait)
        if answer is None:
            text = f"{said}, and not in GitHub's words; is {self._base} the address of its API?"
            return GitHubError(text, Trouble.STRANGE, status=status)
        details = [self._own(words) for words in (answer.message, *map(_spoken, answer.errors))]
        text = ": ".join([said, *filter(None, details)])
        trouble = _TROUBLES.get(status, Trouble.REFUSED)
        return GitHubError(text, trouble, status=status, complaints=tuple(answer.errors))

    def _limited(self, wait: float) -> str:
        until = (datetime.now(UTC) + timedelta(seconds=wait)).astimezone()
        text = (
            f"the rate limit of {self._origin.host} is used up until {until:%H:%M:%S %Z} (for {format_duration(wait)})"
        )
        return text if self._token else f"{text}; a token has a limit of its own, which is far higher"

    def _next(self, headers: Mapping[str, str]) -> str | None:
        for link in headers.get("link", "").split(","):
            target, _, kind = link.partition(";")
            if 'rel="next"' in kind:
                url = target.strip().strip("<>")
                if not url.startswith(f"{self._base}/"):
                    raise GitHubError(
                        f"{self._origin.host} says that its next page is elsewhere: {self._own(url)}",
                        Trouble.STRANGE,
                    )
                return url.removeprefix(self._base)
        return None

    def _decode(self, call: str, data: object, shape: type[T]) -> T:
        try:
            return msgspec.convert(data, shape)
        except msgspec.ValidationError as error:
            raise GitHubError(
                f"{self._origin.host} answered {call} with something that is not GitHub's ({error});"
                f" is {self._base} the address of its API?",
                Trouble.STRANGE,
            ) from None

    def _own(self, words: str) -> str:
        """A server's words, fit for one line of ours."""
        line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
        scrubbed = self._token.scrub(line) if self._token else line
        return scrubbed if len(scrubbed) <= 300 else f"{scrubbed[:297]}..."


class _Refusal(msgspec.Struct):
    message: str
    errors: list[Complaint] = []


def _refusal(data: object) -> _Refusal | None:
    """GitHub's own way of saying no, or `None` where somebody else said it."""
    if not isinstance(data, dict):
        return None
    errors = data.get("errors")
    told = errors if isinstance(errors, list) else [errors]  # at times a text, or several
    spoken = [{"message": each} if isinstance(each, str) else each for each in told]
    for said in (spoken, []):
        try:
            return msgspec.convert({"message": data.get("message"), "errors": said}, _Refusal)
        except msgspec.ValidationError:
            continue
    return None


def _spoken(complaint: Complaint) -> str:
    words = (complaint.field, complaint.message or complaint.code.replace("_", " "))
    return " ".join(word for word in words if word)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None  # no shape fits it, so that it is reported where it was expected to be something


def is_repo(text: str) -> bool:
    """Whether it is of the form `OWNER/REPO`, and so safe to be put into a path."""
    return _REPO.fullmatch(text) is not None


def checked_api_url(text: str) -> str:
    """The base URL of an API, without a slash at its end.

    Raises:
        ConfigError: It is not an http(s) URL with a host and without a user, query or fragment.
    """
    parts = urlsplit(text) if is_web_url(text) else None
    if parts is None or parts.username is not None or parts.query or parts.fragment:
        shown = re.sub("(//[^/@:]*:)[^/]*@", r"\1***@", text)  # its password is nobody's business
        raise ConfigError(f"expected the URL of a GitHub API such as {PUBLIC_API}, got {shown!r}")
    return text.rstrip("/")


def _connect(base: str, token: Token | None, pause: float) -> Any:
    from github import Auth, Github

    return Github(
        auth=Auth.Token(token.reveal()) if token else None,
        base_url=base,
        user_agent=USER_AGENT,
        seconds_between_requests=0,
        seconds_between_writes=pause,
    )


def _reads_again() -> Retry:
    from urllib3.util.retry import Retry

    return Retry(
        total=2,
        connect=0,
        read=1,
        other=0,
        allowed_methods={"GET", "HEAD"},
        status_forcelist={500, 502, 503, 504},
        backoff_factor=0.5,
        raise_on_status=False,
        respect_retry_after_header=False,
    )


def _line(base: str, timeout: float) -> Any:
    """A connection that leaves it to us to follow redirects: the library forgets the query, and never gives up."""
    from github.Requester import HTTPRequestsConnectionClass, HTTPSRequestsConnectionClass

    parts = urlsplit(base)
    kind: Any = HTTPSRequestsConnectionClass if parts.scheme == "https" else HTTPRequestsConnectionClass

    class Line(kind):  # type: ignore[misc] # one of the two, which are alike and not related
        def getresponse(self) -> Any:
            answer = super().getresponse()
            answer.status = 308 if answer.status == 301 else answer.status
            return answer

    return Line(parts.hostname, parts.port, retry=_reads_again(), timeout=timeout)
