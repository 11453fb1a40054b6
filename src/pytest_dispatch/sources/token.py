"""Where a GitHub token comes from: an option, the environment, or the GitHub command line tool."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_dispatch.core.token import PUBLIC_API, Token

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Token", "find_token", "gh_host"]

GH_TIMEOUT = 5.0  # seconds; it may ask a keyring that waits for its owner


def find_token(
    option: str | None, environ: Mapping[str, str], api_url: str = PUBLIC_API, *, patience: float = GH_TIMEOUT
) -> Token | None:
    """The first token of: the option, `GITHUB_TOKEN`, `GH_TOKEN`, `gh auth token`.

    Empty values count as absent. `gh` is asked for the host of `api_url`, so that a token of one
    host is never sent to another; where `gh` is missing, not signed in or does not answer in time,
    there is no token.

    Args:
        option: What `--dispatch-token` says.
        environ: The environment, also that of `gh` (its `PATH`, `GH_CONFIG_DIR`, `GH_ENTERPRISE_TOKEN`, …).
        api_url: The API that the token is for.
        patience: Seconds to wait for `gh`.

    Raises:
        ConfigError: What was found cannot be a token.
    """
    given = {
        "--dispatch-token": option or "",
        "GITHUB_TOKEN": environ.get("GITHUB_TOKEN", ""),
        "GH_TOKEN": environ.get("GH_TOKEN", ""),
    }
    for source, value in given.items():
        if value.strip():
            return Token(value, source, api_url)
    value = _ask_gh(environ, gh_host(api_url), patience)
    return Token(value, "gh auth token", api_url) if value.strip() else None


def gh_host(api_url: str) -> str:
    """The host as `gh` names it: `github.com`, or that of a GitHub Enterprise Server."""
    host = urlsplit(api_url).hostname or ""
    # GitHub Enterprise Cloud with data residency: https://api.SUBDOMAIN.ghe.com
    own_api_host = host == "api.github.com" or (host.startswith("api.") and host.endswith(".ghe.com"))
    return host.removeprefix("api.") if own_api_host else host


def _ask_gh(environ: Mapping[str, str], host: str, patience: float) -> str:
    program = shutil.which("gh", path=environ.get("PATH", ""))
    if program is None or not host:
        return ""
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed list of arguments, and no shell
            [program, "auth", "token", "--hostname", host],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=patience,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode("utf-8", "replace") if answer.returncode == 0 else ""
