"""Tokens and URLs that do not reveal themselves, and removal of secrets from texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote, urlsplit

from pytest_dispatch.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

PUBLIC_API = "https://api.github.com"

#: Names of environment variables that may hold a secret; pytest's options may contain a token.
_SECRET = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|^PYTEST_ADDOPTS$|^DISPATCH_NOTIFY$", re.IGNORECASE)

#: Names of variables whose value may hold a password without a scheme: `me:secret@proxy:3128`.
_PROXY = re.compile("_PROXY$", re.IGNORECASE)

HIDDEN = "***"
#: A user's password in a URL; it may contain slashes.
_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+(?=@)")
#: What a URL's query says of them: `?user=me&password=…`.
_QUERY = re.compile(r"([?&][^=&\s]*(?:pass|pwd|secret|token)[^=&\s]*=)([^&\s]+)", re.IGNORECASE)
#: What separates the parts of a URL of which each may be a secret.
_PARTS = re.compile(r"[/:@?&=#]+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,29}")
#: Who signs in by a URL; a password that should have been percent-encoded may hold whatever stands before its end.
_USERINFO = re.compile(r"(?<=://).*(?=@)", re.DOTALL)


def gh_host(url: str) -> str:
    """Return the host of an API as `gh` names it: `github.com`, or the host of a GitHub Enterprise Server."""
    host = urlsplit(url).hostname or ""
    # GitHub Enterprise Cloud with data residency: https://api.SUBDOMAIN.ghe.com
    own_api_host = host == "api.github.com" or (host.startswith("api.") and host.endswith(".ghe.com"))
    return host.removeprefix("api.") if own_api_host else host


def is_github_s_own(url: str) -> bool:
    """Return whether GitHub runs the server of an API, unlike a GitHub Enterprise Server, which has its own tokens."""
    host = gh_host(url)
    return host == "github.com" or host.endswith(".ghe.com")


def ways_to_sign_in(url: str) -> str:
    """Return where a user can set a token for the server of an API."""
    if is_github_s_own(url):
        return "--dispatch-token, GITHUB_TOKEN or `gh auth login`"
    return (
        f"--dispatch-token, GH_ENTERPRISE_TOKEN or `gh auth login --hostname {gh_host(url)}`; GITHUB_TOKEN is for"
        " github.com, unless GITHUB_API_URL names this server"
    )


def without_passwords(text: str) -> str:
    """Return `text` with the passwords in its URLs replaced by `***`."""
    return _QUERY.sub(rf"\1{HIDDEN}", _PASSWORD.sub(rf"\1{HIDDEN}", text)) if "://" in text else text


def without_userinfo(text: str) -> str:
    """`text`, which may be a URL, without who signs in by it, and with the secrets of its query blotted out."""
    return _QUERY.sub(rf"\1{HIDDEN}", _USERINFO.sub(HIDDEN, text))


def secrets_in(text: str) -> tuple[str, ...]:
    """Return what `without_userinfo` blots out, the longest first, as it is written and as it is meant.

    Of a user with a password, the password; alone, the user may be a token.
    """
    said = [user.partition(":")[2] or user for user in _USERINFO.findall(text)]
    said += [value for _, value in _QUERY.findall(text)]
    return tuple(sorted({*said, *map(unquote, said)} - {""}, key=len, reverse=True))


def blotted(text: str, secrets: Iterable[str]) -> str:
    """`text` with these blotted out."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables that may hold the user's secrets, for a program that needs none."""
    return {
        name: value
        for name, value in environ.items()
        if not _SECRET.search(name) and value == without_passwords(value) and not _PROXY.search(name)
    }


class Token:
    """A secret with its origin and the API that it is for.

    No text made of it (`repr`, `str`, format, a log line, a traceback with locals) contains the secret.
    It cannot be pickled, and a copy is the same object. Only `reveal` returns the secret; call it where a
    request is made.

    Args:
        value: The secret; surrounding blanks are dropped.
        source: Where it came from, for people: `GITHUB_TOKEN`.
        api_url: The API that it is for; it must not be sent to any other server.

    Raises:
        ConfigError: The value is empty, or has blanks, line breaks or characters that no HTTP header may
            carry (RFC 9110, section 5.5). The text names the source, not the value.
    """

    __slots__ = ("_value", "api_url", "source")

    def __init__(self, value: str, source: str, api_url: str = PUBLIC_API) -> None:
        value = value.strip()
        if not value or not all("!" <= character <= "~" for character in value):
            raise ConfigError(
                f"the token from {source} is invalid: expected letters, digits and signs without blanks; "
                "set it again, in one line"
            )
        self._value = value
        self.source = source
        self.api_url = api_url

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def scrub(self, text: str) -> str:
        """Return `text` with the secret replaced by `***`."""
        return text.replace(self._value, "***")

    def __repr__(self) -> str:
        return f"<Token from {self.source}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not to be pickled: it would end in a file or on a wire")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class SecretUrl:
    """A URL that is a secret as a whole, such as one of apprise, in which even the host may be a token.

    No text made of it contains more than its scheme; it cannot be pickled. Only `reveal` returns it.

    Args:
        value: The URL.
        source: Where it came from, for people: `--dispatch-notify`.
    """

    __slots__ = ("_value", "source")

    def __init__(self, value: str, source: str) -> None:
        self._value = value.strip()
        self.source = source

    @property
    def scheme(self) -> str:
        """Return its scheme, in small letters; empty if it has none that could be shown."""
        scheme = self._value.partition("://")[0].lower()
        return scheme if "://" in self._value and _SCHEME.fullmatch(scheme) else ""

    def reveal(self) -> str:
        """Return the URL itself."""
        return self._value

    def scrub(self, text: str) -> str:
        """Return `text` without the URL, and without every part of it that is more than a few signs."""
        parts = {each for each in _PARTS.split(self._value.partition("://")[2]) if len(each) > 3}
        secrets = {self._value, *parts, *map(unquote, parts)} - {self.scheme}
        return blotted(text, sorted(secrets, key=len, reverse=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretUrl) and other.reveal() == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"<{self.scheme or 'no'} URL from {self.source}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret URL is not to be pickled: it would end in a file or on a wire")
