"""Tokens of labs: from an option, the environment, or the file that `dispatch login` keeps."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from platformdirs import user_config_path

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.secrets import Token

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "DISPATCH_TOKEN"
WAYS = f"set {VARIABLE}, or run dispatch login"


def read_lab_url(text: str) -> str:
    """Return the address of a lab without a slash at its end.

    Raises:
        ConfigError: It is none.
    """
    try:
        parts = urlsplit(text.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # the port is no number, or a bracket is not closed
        parts, valid = urlsplit(""), False
    if not valid or parts.query or parts.fragment or "@" in parts.netloc:
        shown = "one with a user" if "@" in text else repr(text)
        raise ConfigError(f"expected a lab's address such as https://lab.example:8080, got {shown}")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def tokens_file() -> Path:
    """Return the file that `dispatch login` keeps."""
    return user_config_path("pytest-dispatch") / "labs.json"


def find_lab_token(url: str, option: str, environ: Mapping[str, str]) -> Token:
    """Return the token for a lab: that of the option, else of the environment, else the kept one.

    Raises:
        ConfigError: There is none, or it cannot be used.
    """
    for source, value in {"--dispatch-lab-token": option, VARIABLE: environ.get(VARIABLE, "")}.items():
        if value.strip():
            return Token(value, source, url)
    if kept := kept_token(url):
        return Token(kept, "dispatch login", url)
    raise ConfigError(f"--dispatch-lab {url}: expected a token for this lab, got none; {WAYS} {url}")


def keep_token(url: str, token: str) -> Path:
    """Keep the token for a lab in a file that only the user may read, and return the file.

    Raises:
        ConfigError: The file cannot be written.
    """
    path = tokens_file()
    others = {other: kept for other, kept in _kept(path).items() if other != url}
    _write(path, {**others, url: token})
    return path


def kept_token(url: str) -> str:
    """Return the token that is kept for a lab; empty if there is none.

    Raises:
        ConfigError: The file of tokens cannot be used.
    """
    return _kept(tokens_file()).get(url, "")


def last_kept() -> str:
    """Return the address of the lab whose token was kept last; empty if none is kept.

    Raises:
        ConfigError: The file of tokens cannot be used.
    """
    return next(reversed(_kept(tokens_file())), "")


def drop_token(url: str) -> bool:
    """Drop the kept token for a lab; return whether there was one.

    Raises:
        ConfigError: The file cannot be written.
    """
    path = tokens_file()
    kept = _kept(path)
    if url not in kept:
        return False
    del kept[url]
    _write(path, kept)
    return True


def _kept(path: Path) -> dict[str, str]:
    """Return the kept tokens, by address.

    Raises:
        ConfigError: Other users may read the file, or it is broken.
    """
    try:
        with path.open() as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            said = file.read()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected the tokens of labs, got {error}; run `dispatch login` again") from error
    if mode & 0o077:
        raise ConfigError(
            f"{path}: expected a file that only you may read, got mode {mode:o}; run `chmod 600 {path}`, and have the"
            " labs give you other tokens"
        )
    try:
        kept = dict(json.loads(said))
    except (ValueError, TypeError):
        raise ConfigError(f"{path}: expected the tokens of labs, got something else; remove it, and log in") from None
    return {str(url): str(token) for url, token in kept.items()}


def _write(path: Path, kept: Mapping[str, str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, written = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # has mode 0600
        with os.fdopen(handle, "w") as file:
            json.dump(kept, file, indent=2)
        Path(written).replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: expected a file that can be written, got {error.strerror or error}") from error
