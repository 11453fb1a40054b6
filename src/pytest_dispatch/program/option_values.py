"""What options say, read and checked: pytest's, and those of `dispatch serve`, which have the same names.

Errors name pytest's option; without its `dispatch-` it is the other one.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.requirements import read_labels
from pytest_dispatch.core.secrets import secrets_in, without_userinfo
from pytest_dispatch.github.api import checked_api_url
from pytest_dispatch.machines.base import Spec

MOST_MACHINES = 10_000
_COMMON = LABELS, ADDRESS = "labels", "address"  # the options of a SPEC that are the same for all drivers

_SPEC = re.compile(r"(?P<scheme>[a-z][a-z0-9-]*)(?:(?P<place>://[^?]+)|:(?P<count>[0-9]+))?(?:\?(?P<options>.*))?")


def read_spec(text: str) -> Spec:
    """A `--dispatch-machine` value, taken apart.

    Raises:
        ConfigError: It is malformed.
    """
    shown, match = without_userinfo(text), _SPEC.fullmatch(text.strip())
    count = read_number(match["count"] or "1") if match else None
    if match is None or count is None or not 1 <= count <= MOST_MACHINES:
        raise ConfigError(
            f"--dispatch-machine: expected a SPEC such as sim, sim:8, qemu:2 or NAME://HOST, got {shown!r}"
        )
    scheme, place = match["scheme"], match["place"]
    pairs = [pair.partition("=") for pair in (match["options"] or "").split("&") if pair]
    said = {name: [each for key, _, value in pairs if key == name for each in value.split(",")] for name in _COMMON}
    options = tuple((key, value) for key, _, value in pairs if key not in _COMMON)
    query = "&".join(f"{key}={value}" for key, value in options)
    return Spec(
        scheme=scheme,
        count=count,
        options=options,
        labels=read_labels([f"driver={scheme}", *said[LABELS]], f"--dispatch-machine {shown}: {LABELS}"),
        addresses=tuple(_machine_address(address, shown) for address in said[ADDRESS]),
        url=f"{scheme}{place}{query and f'?{query}'}" if place else "",
        text=shown,
        secrets=secrets_in(text),
    )


def _machine_address(text: str, spec: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ConfigError(
            f"--dispatch-machine {spec}: expected an address such as 192.168.1.31 behind {ADDRESS}=, got {text!r}"
        ) from None


def read_bind(text: str) -> tuple[str, int]:
    """A `--dispatch-bind` value: host and port.

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
    """A `--dispatch-path` value.

    Raises:
        ConfigError: No machine could boot from it.
    """
    if not re.fullmatch(r"(/[\w.~-]+)+", text) or text.startswith("/api/"):
        raise ConfigError(f"--dispatch-path: expected a path such as /dispatch, outside /api/, got {text!r}")
    return text


def read_network(text: str) -> str:
    """A `--dispatch-allow` value, as all networks are written.

    Raises:
        ConfigError: It is none.
    """
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise ConfigError(
            f"--dispatch-allow: expected a network such as 192.168.1.0/24 or fd00::/8, got {text!r}"
        ) from None


def read_boot_tool(text: str) -> str:
    """A `--dispatch-boot-tool` value.

    Raises:
        ConfigError: People do not look with it.
    """
    from pytest_dispatch.server.limits.not_firmware import TOOLS

    if (name := text.strip().lower()) not in TOOLS:
        raise ConfigError(
            f"--dispatch-boot-tool: expected a tool such as curl, wget or python-requests, got {text!r}; what is no"
            " tool of people boots without this"
        )
    return name


def read_api_url(text: str) -> str:
    """A `--dispatch-api-url` value.

    Raises:
        ConfigError: A token could not be sent there.
    """
    try:
        return checked_api_url(text)
    except ConfigError as error:
        raise ConfigError(f"--dispatch-api-url: {error}") from None


def read_place(option: str, text: str, base: Path) -> Path:
    """A path that an option names, of which `~` and `~USER` are homes.

    Raises:
        ConfigError: That user has none.
    """
    try:
        return base / Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{option}: expected a path, got {text!r}, and that user has no home") from None


def read_database(url: str) -> str:
    """Refuse a `--dispatch-db` URL that nothing can connect to; it may hold a password, and so is not shown.

    Raises:
        ConfigError: It is one.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        create_engine(url)
    except (NoSuchModuleError, ImportError) as error:
        why = f"one whose driver is not installed ({error})"
    except (ArgumentError, ValueError):
        why = "one that cannot be read"
    else:
        return url
    raise ConfigError(
        f"--dispatch-db: expected a file, or a database's URL such as postgresql+psycopg://HOST/NAME, got {why}"
    )


def read_gigabytes(text: str) -> int:
    """A `dispatch_cache_limit`, in bytes.

    Raises:
        ConfigError: It is no number, or 0.
    """
    number = read_number(text)
    if not number:
        raise ConfigError(f"dispatch_cache_limit: expected a number of gigabytes such as 20, got {text!r}")
    return number * 10**9


def read_number(text: str) -> int | None:
    """A whole number from 0 on; None if it is none, or so long that Python will not read it."""
    return int(text) if text.isdecimal() and len(text) < 10 else None
