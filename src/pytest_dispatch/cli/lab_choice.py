"""Which lab a command asks, and with which token."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_dispatch.cli.exit_codes import NoLabError
from pytest_dispatch.client.lab_tokens import VARIABLE, WAYS, kept_token, last_kept, read_lab_url
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.secrets import Token

if TYPE_CHECKING:
    from collections.abc import Mapping

LAB_VARIABLE = "DISPATCH_LAB"
HERE = "http://127.0.0.1:8081"  # where a lab listens for people if nothing else is said

SERVED = ", or name with --token-file the file that `dispatch serve` named when it started"


def choose_lab(option: str, environ: Mapping[str, str]) -> str:
    """Return the address of the lab: of the option, of the environment, of the last `dispatch login`, or of here.

    Raises:
        ConfigError: It is no address.
    """
    for source, text in {"--lab": option, LAB_VARIABLE: environ.get(LAB_VARIABLE, "")}.items():
        if text.strip():
            try:
                return read_lab_url(text)
            except ConfigError as error:
                raise ConfigError(f"{source}: {error}") from None
    return last_kept() or HERE


def choose_token(url: str, file: str, environ: Mapping[str, str]) -> Token:
    """Return the token to use: of the file, of the environment, kept by `dispatch login`, or of a lab here.

    The token of a lab here has all rights, and goes to no other computer unless its file is named.

    Raises:
        ConfigError: What was given is no token.
        NoLabError: There is none.
    """
    if file:
        return Token(_read(Path(file), "name another file with --token-file"), "--token-file", url)
    if text := environ.get(VARIABLE, "").strip():
        return Token(text, VARIABLE, url)
    if text := kept_token(url):
        return Token(text, "dispatch login", url)
    if not _is_here(url):
        raise NoLabError(f"not signed in at {url}: expected a token for this lab, got none; {WAYS} {url}")
    path = _last_written()
    ways = f"is a lab running there? then name with --token-file the file that it named at its start; else {WAYS} {url}"
    return Token(_read(path, ways), str(path), url)


def is_served(token: Token) -> bool:
    """Return whether a token is the one that some `dispatch serve` of this computer wrote, maybe of another lab."""
    return Path(token.source).is_absolute()


def _read(path: Path, ways: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no text"
        raise NoLabError(f"not signed in: expected a token in {path}, which cannot be read ({why}); {ways}") from None


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _last_written() -> Path:
    """Return the file that the last `dispatch serve` of this user wrote its token to, unless it was told another."""
    from pytest_dispatch.lab_program.paths import token_files

    there = [path for path in token_files() if path.exists()]
    return max(there, key=lambda path: path.stat().st_mtime, default=token_files()[0])
