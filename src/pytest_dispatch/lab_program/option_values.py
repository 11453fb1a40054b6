"""Parses and checks the values of options, for pytest and for `dispatch serve`, whose options have the same names.

Errors name pytest's option; without `dispatch-`, that is the name of the other.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.requirements import read_labels
from pytest_dispatch.core.secrets import secrets_in, without_userinfo
from pytest_dispatch.github.api import checked_api_url, is_repo
from pytest_dispatch.machines.base import OPTION, Spec

MOST_MACHINES = 10_000
_COMMON = LABELS, ADDRESS = "labels", "address"  # the options of a SPEC that are the same for all drivers

_SPEC = re.compile(r"(?P<scheme>[a-z][a-z0-9-]*)(?:(?P<place>://[^?]+)|:(?P<count>[0-9]+))?(?:\?(?P<options>.*))?")


def read_spec(text: str, option: str = OPTION) -> Spec:
    """Return a parsed `--dispatch-machine` value.

    Args:
        text: The value.
        option: Where it was given, for messages.

    Raises:
        ConfigError: It is malformed.
    """
    shown, match = without_userinfo(text), _SPEC.fullmatch(text.strip())
    count = read_number(match["count"] or "1") if match else None
    if match is None or count is None or not 1 <= count <= MOST_MACHINES:
        raise ConfigError(f"{option}: expected a SPEC such as sim, sim:8, qemu:2 or NAME://HOST, got {shown!r}")
    scheme, place = match["scheme"], match["place"]
    pairs = [pair.partition("=") for pair in (match["options"] or "").split("&") if pair]
    said = {name: [each for key, _, value in pairs if key == name for each in value.split(",")] for name in _COMMON}
    options = tuple((key, value) for key, _, value in pairs if key not in _COMMON)
    query = "&".join(f"{key}={value}" for key, value in options)
    return Spec(
        scheme=scheme,
        count=count,
        options=options,
        labels=read_labels([f"driver={scheme}", *said[LABELS]], f"{option} {shown}: {LABELS}"),
        addresses=tuple(_machine_address(address, f"{option} {shown}") for address in said[ADDRESS]),
        url=f"{scheme}{place}{query and f'?{query}'}" if place else "",
        text=shown,
        option=option,
        secrets=secrets_in(text),
    )


def _machine_address(text: str, given: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ConfigError(
            f"{given}: expected an address such as 192.168.1.31 behind {ADDRESS}=, got {text!r}"
        ) from None


def read_bind(text: str) -> tuple[str, int]:
    """Return host and port of a `--dispatch-bind` value.

    Raises:
        ConfigError: It is malformed.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    number = read_number(port)
    if not colon or number is None or number > 65535 or not _is_host(host):
        raise ConfigError(
            f"--dispatch-bind: expected ADDRESS:PORT such as 0.0.0.0:8080, [::]:8080 or 192.168.1.5:0, got {text!r}"
        )
    return host, number


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def read_path(text: str) -> str:
    """Return a `--dispatch-path` value.

    Raises:
        ConfigError: No machine could boot from this path.
    """
    if not re.fullmatch(r"(/[\w.~-]+)+", text) or text.startswith("/api/"):
        raise ConfigError(f"--dispatch-path: expected a path such as /dispatch, outside /api/, got {text!r}")
    return text


def read_network(text: str) -> str:
    """Return a `--dispatch-allow` value in the normal form of networks.

    Raises:
        ConfigError: The value is not a network.
    """
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise ConfigError(
            f"--dispatch-allow: expected a network such as 192.168.1.0/24 or fd00::/8, got {text!r}"
        ) from None


def read_boot_tool(text: str) -> str:
    """Return a `--dispatch-boot-tool` value in lower case.

    Raises:
        ConfigError: The tool is not one of those that the boot path refuses by default.
    """
    from pytest_dispatch.server.limits.non_firmware import TOOLS

    if (name := text.strip().lower()) not in TOOLS:
        raise ConfigError(
            f"--dispatch-boot-tool: expected a tool such as curl, wget or python-requests, got {text!r}; other"
            " clients can boot without this option"
        )
    return name


def read_repo(text: str) -> str:
    """Return a `--dispatch-issues-repo` value.

    Raises:
        ConfigError: The value is no name of a repository.
    """
    if not is_repo(text):
        raise ConfigError(f"--dispatch-issues-repo: expected OWNER/REPO such as AMDEPYC/dispatch, got {text!r}")
    return text


def read_api_url(text: str) -> str:
    """Return a `--dispatch-api-url` value.

    Raises:
        ConfigError: The URL is invalid, or a token must not be sent to it.
    """
    try:
        return checked_api_url(text)
    except ConfigError as error:
        raise ConfigError(f"--dispatch-api-url: {error}") from None


def read_place(option: str, text: str, base: Path) -> Path:
    """Return the path that an option names, relative to `base`, with `~` and `~USER` expanded.

    Raises:
        ConfigError: The user has no home directory.
    """
    try:
        return base / Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{option}: expected a path, got {text!r}, and that user has no home") from None


def read_database(url: str) -> str:
    """Return a `--dispatch-db` URL after checking that it is PostgreSQL's, and that a driver for it exists.

    Raises:
        ConfigError: There is no driver for the URL, or it is invalid or another database's; the error does not show the
            URL, which may contain a password.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        kind = create_engine(url).dialect.name
    except (NoSuchModuleError, ImportError) as error:
        why = f"one whose driver is not installed ({error}); for PostgreSQL, pip install 'psycopg[binary]'"
    except (ArgumentError, ValueError):
        why = "one that cannot be read"
    else:
        if kind == "postgresql":
            return url
        why = "a URL of SQLite: of a file, write the name alone" if kind == "sqlite" else f"a URL of {kind}"
    raise ConfigError(
        f"--dispatch-db: expected a file, or a database's URL such as postgresql+psycopg://HOST/NAME, got {why}"
    )


def read_gigabytes(text: str) -> int:
    """Return a `dispatch_cache_limit` in bytes.

    Raises:
        ConfigError: The value is not a number, or 0.
    """
    number = read_number(text)
    if not number:
        raise ConfigError(f"dispatch_cache_limit: expected a number of gigabytes such as 20, got {text!r}")
    return number * 10**9


def read_number(text: str) -> int | None:
    """Return a whole number of at most 9 digits; None if the text is anything else."""
    return int(text) if text.isdecimal() and len(text) < 10 else None
