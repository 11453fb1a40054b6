"""`dispatch login` and `dispatch logout`: keep the token for a lab, so that pytest finds it."""

from __future__ import annotations

import getpass
import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from pytest_dispatch.cli.exit_codes import Code, NoLabError
from pytest_dispatch.cli.parser import Parser
from pytest_dispatch.client.handshake import greeted
from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.client.lab_tokens import drop_token, keep_token, last_kept, read_lab_url
from pytest_dispatch.core.errors import ConfigError, LabError
from pytest_dispatch.core.secrets import Token

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOGIN = "Keep the token for a lab: pytest uses it for that lab, and other commands ask that lab from now on"
_LOGOUT = "Drop the token that is kept for a lab"

LONGEST = 4096  # characters of a token


def login(words: Sequence[str]) -> int:
    """Ask for the token for a lab, see that the lab takes it, and keep it.

    Raises:
        ConfigError: The address or the token cannot be used, or the token cannot be kept.
        NoLabError: The lab cannot be reached, or refuses the token.
    """
    parser = Parser(prog="dispatch login", description=f"{_LOGIN}.", allow_abbrev=False)
    parser.add_argument("url", metavar="URL", help="the lab's address, as for pytest's --dispatch-lab")
    url = _url(parser.parse_args(words).url)
    given = _asked(url)
    if not given.strip():
        raise ConfigError("expected a token, as `dispatch tokens create` makes one, got none")
    token = Token(given, "standard input", url)
    try:
        with closing(LabClient(url, token.reveal())) as client:
            view = greeted(client, token)
    except LabError as error:
        raise NoLabError(str(error)) from error
    path = keep_token(url, token.reveal())
    print(f"dispatch: the lab at {url} is of version {view.version}; its token is kept in {path}")
    return Code.DONE


def logout(words: Sequence[str]) -> int:
    """Drop the kept token for a lab.

    Raises:
        ConfigError: The address cannot be used, or the file cannot be written.
        LabError: There is none.
    """
    parser = Parser(prog="dispatch logout", description=f"{_LOGOUT}.", allow_abbrev=False)
    parser.add_argument("url", metavar="URL", nargs="?", help="the lab's address (default: that of the last login)")
    given = parser.parse_args(words).url
    url = _url(given) if given else last_kept()
    if not drop_token(url):
        raise LabError(f"no token is kept for {url or 'any lab'}: nothing to do")
    print(f"dispatch: the token for {url} is no longer kept; the lab still accepts it until it is revoked there")
    return Code.DONE


def _url(text: str) -> str:
    try:
        return read_lab_url(text)
    except ConfigError as error:
        raise ConfigError(f"URL: {error}") from None


def _asked(url: str) -> str:
    """Return what the user types without being shown, or the first line of standard input if that is no terminal."""
    if sys.stdin is not None and os.isatty(sys.stdin.fileno()):
        return getpass.getpass(f"token for {url}: ")
    return sys.stdin.readline(LONGEST) if sys.stdin is not None else ""
