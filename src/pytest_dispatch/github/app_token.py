"""Tokens of a GitHub App's installation, each of which GitHub gives for an hour.

The App signs in with a JSON Web Token that its private key has signed (RFC 7519, RS256 of RFC 7518), and asks for a
token of the installation for an owner: https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
"""

from __future__ import annotations

import base64
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.secrets import PUBLIC_API, Token
from pytest_dispatch.github.api import GitHubApi, GitHubError, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

SPARE = 300.0  # seconds before its end at which a token is replaced: what it begins may take a while
LASTS = 540.0  # seconds that a JSON Web Token lasts; GitHub takes at most 600
SLOW = 60.0  # seconds by which GitHub's clock may be behind


class _Installation(msgspec.Struct):
    id: int


class _Given(msgspec.Struct):
    token: str
    expires_at: datetime


class AppKey:
    """What a GitHub App signs in with.

    Args:
        app: Id of the App.
        file: Its private key, in PEM.
        name: Where it is configured, for messages.

    Raises:
        ConfigError: The file cannot be read, or has no RSA key.
    """

    def __init__(self, app: int, file: Path, name: str) -> None:
        self._app = app
        self._key = _read_key(file, name)

    def signed(self, now: float) -> str:
        """Return a JSON Web Token for the App."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        said = {"iat": int(now - SLOW), "exp": int(now + LASTS), "iss": str(self._app)}
        text = f"{_part({'alg': 'RS256', 'typ': 'JWT'})}.{_part(said)}"
        return f"{text}.{_base64(self._key.sign(text.encode(), PKCS1v15(), SHA256()))}"

    def __repr__(self) -> str:
        return f"<key of the App {self._app}>"


class AppToken(Token):
    """The token of a GitHub App for an owner; asked for when it is first needed, and again shortly before its end.

    Args:
        key: What the App signs in with.
        owner: A user or an organisation.
        installation: Id of the installation; None to ask GitHub for the owner's.
        api_url: The API that it is for.
        clock: Tells the time, in seconds since 1970.
    """

    __slots__ = ("_clock", "_door", "_ends", "_installation", "_key", "_owner")

    def __init__(
        self,
        key: AppKey,
        owner: str,
        installation: int | None = None,
        api_url: str = PUBLIC_API,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.source = f"github.apps.{owner}"
        self.api_url = api_url
        self._value = ""
        self._ends = 0.0
        self._key = key
        self._owner = owner
        self._installation = installation
        self._clock = clock
        self._door = threading.Lock()

    def reveal(self) -> str:
        """Return the secret itself; blocks while GitHub is asked for it.

        Raises:
            GitHubError: GitHub gives none.
        """
        with self._door:
            if self._clock() >= self._ends - SPARE:
                self._replace()
            return self._value

    def scrub(self, text: str) -> str:
        """Return `text` with the secret replaced by `***`."""
        return super().scrub(text) if self._value else text

    def _replace(self) -> None:
        signed = Token(self._key.signed(self._clock()), self.source, self.api_url)
        with GitHubApi(self.api_url, signed, pause=0.0) as api:
            if self._installation is None:
                self._installation = _installation_of(api, self._owner)
            given = api.post(f"/app/installations/{self._installation}/access_tokens", {}, _Given)
        self._value, self._ends = Token(given.token, self.source, self.api_url).reveal(), given.expires_at.timestamp()


def _installation_of(api: GitHubApi, owner: str) -> int:
    """Return the id of the App's installation for an organisation or a user.

    Raises:
        GitHubError: It is not installed there, or GitHub does not answer.
    """
    name = quote(owner, safe="")
    try:
        return api.get(f"/orgs/{name}/installation", _Installation).id
    except GitHubError as error:
        if error.trouble is not Trouble.MISSING:
            raise
    return api.get(f"/users/{name}/installation", _Installation).id


def _read_key(file: Path, name: str) -> RSAPrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ModuleNotFoundError:
        raise ConfigError(f"{name}: needs cryptography: pip install 'pytest-dispatch[serve]'") from None
    expected = f"{name}.private_key: expected a file with an RSA key in PEM, without a password"
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except OSError as error:
        raise ConfigError(f"{expected}, got {file} ({error.strerror})") from None
    except (ValueError, TypeError):  # the error's own text might quote the file
        raise ConfigError(f"{expected}, got {file}; download one from the App's settings at GitHub") from None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError(f"{expected}, got another kind of key in {file}; download one from the App's settings")
    return key


def _part(content: dict[str, Any]) -> str:
    return _base64(msgspec.json.encode(content))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
