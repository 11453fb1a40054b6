"""Finds a GitHub token in an option, in the environment, or with the GitHub command line tool."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from pytest_dispatch.core.secrets import PUBLIC_API, Token, gh_host, is_github_s_own
from pytest_dispatch.support.network_errors import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Token", "find_token"]

GH_TIMEOUT = 5.0  # seconds; gh may wait for a locked keyring


def find_token(
    option: str | None, environ: Mapping[str, str], api_url: str = PUBLIC_API, *, patience: float = GH_TIMEOUT
) -> Token | None:
    """Return the first token found in the option, the variables for the server of `api_url`, and `gh auth token`.

    The variables are those of `gh` (https://cli.github.com/manual/gh_help_environment): `GITHUB_TOKEN` and `GH_TOKEN`
    for github.com and subdomains of ghe.com, `GH_ENTERPRISE_TOKEN` and `GITHUB_ENTERPRISE_TOKEN` for any other server.
    For such a server, `GITHUB_TOKEN` counts too if `GITHUB_API_URL` is its API, as in GitHub Actions.

    Empty values count as absent. `gh` is asked for a token of the host of `api_url`, so that a token is never sent to
    another host. If `gh` is missing, not signed in or does not answer in time, there is no token.

    Args:
        option: Value of `--dispatch-token`.
        environ: The environment, also for `gh` (its `PATH`, `GH_CONFIG_DIR`, `GH_ENTERPRISE_TOKEN`, …).
        api_url: The API that the token is for.
        patience: Longest wait for `gh`, in seconds.

    Raises:
        ConfigError: The value found cannot be a token.
    """
    given = {name: environ.get(name, "") for name in _variables(environ, api_url)}
    for source, value in {"--dispatch-token": option or "", **given}.items():
        if value.strip():
            return Token(value, source, api_url)
    value = _ask_gh(environ, gh_host(api_url), patience)
    return Token(value, "gh auth token", api_url) if value.strip() else None


def _variables(environ: Mapping[str, str], api_url: str) -> tuple[str, ...]:
    """Return the names of the variables with tokens for the server of `api_url`."""
    if is_github_s_own(api_url):
        return "GITHUB_TOKEN", "GH_TOKEN"
    own = "GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"
    named = environ.get("GITHUB_API_URL", "")
    return (*own, "GITHUB_TOKEN") if named and Origin.of(named) == Origin.of(api_url) else own


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
