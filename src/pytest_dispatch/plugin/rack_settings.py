"""Reads the settings of a rack: where MAAS and Testflinger are, whose keys are used, and how machines are deployed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.plain_text import is_name
from pytest_dispatch.lab_program.config import TestflingerServer
from pytest_dispatch.plugin.setting_values import option_name

if TYPE_CHECKING:
    from pytest_dispatch.plugin.setting_values import Values
    from pytest_dispatch.sources.rack import Rack

#: Options that only a rack has.
ONLY_RACKS = (
    *("dispatch_rack_location", "dispatch_rack_job", "dispatch_streak_limit", "dispatch_first_look", "dispatch_busy"),
    *("dispatch_maas_url", "dispatch_testflinger_url"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RackSettings:
    """A rack, and the Testflinger server as a lab of pytest's own gets to know it."""

    rack: Rack
    server: TestflingerServer


def read_rack(values: Values, name: str, environ: Mapping[str, str]) -> RackSettings:
    """Read the settings of a rack.

    Args:
        values: Options and ini keys.
        name: The rack.
        environ: The environment, which has the keys.

    Raises:
        ConfigError: Something is missing or cannot be used; says what to set.
    """
    from pytest_dispatch.maas.api import MaasKey  # what follows is for racks alone
    from pytest_dispatch.plugin.rack_job import read_job
    from pytest_dispatch.sources.rack import ANYWHERE, JOB, Rack
    from pytest_dispatch.support.service_client import read_base
    from pytest_dispatch.testflinger.api import Account

    if not is_name(name):
        raise ConfigError(f"--dispatch-rack: expected a tag of machines in MAAS, got {name[:80]!r}")
    maas_url = read_base(*_said(values, "dispatch_maas_url", "MAAS_URL", environ))
    server = _server(read_base(*_said(values, "dispatch_testflinger_url", "TESTFLINGER_SERVER", environ)), environ)
    given = values.path("dispatch_rack_job")
    rack = Rack(
        name=name,
        maas_url=maas_url,
        maas_key=MaasKey.read("MAAS_API_KEY", _maas_key(environ), maas_url),
        testflinger_url=server.url,
        account=Account(server.client_id, server.secret) if server.secret is not None else None,
        location=values.text("dispatch_rack_location", ANYWHERE),
        job=read_job(given) if given is not None else JOB,
        more={
            "streak_limit": values.number("dispatch_streak_limit", 20),
            "first_look": values.duration("dispatch_first_look", "5m"),
            "busy": values.choice("dispatch_busy", ("skip", "wait"), "skip"),
        },
    )
    return RackSettings(rack=rack, server=server)


def refuse_without_rack(values: Values) -> None:
    """Refuse options on the command line that only a rack has.

    Raises:
        ConfigError: One of them was given.
    """
    for name in filter(values.typed, ONLY_RACKS):
        raise ConfigError(
            f"{option_name(name)}: expected it with --dispatch-rack, got it with another source of workloads; leave it"
            " out"
        )


def _maas_key(environ: Mapping[str, str]) -> str:
    """Return the key of MAAS's API, in the form in which MAAS shows it."""
    key = environ.get("MAAS_API_KEY", "")
    if not key:
        raise ConfigError(
            "MAAS_API_KEY: expected MAAS's API key in the environment, got none; set it for --dispatch-rack"
        )
    return key


def _server(url: str, environ: Mapping[str, str]) -> TestflingerServer:
    """Return the Testflinger server, and the client that the environment names."""
    from pytest_dispatch.core.secrets import Token

    client, secret = environ.get("TESTFLINGER_CLIENT_ID", ""), environ.get("TESTFLINGER_SECRET_KEY", "")
    if bool(client) != bool(secret):
        raise ConfigError(
            "TESTFLINGER_CLIENT_ID and TESTFLINGER_SECRET_KEY: expected both in the environment or neither, got one;"
            " set the other one too"
        )
    token = Token(secret, "TESTFLINGER_SECRET_KEY", url) if secret else None
    return TestflingerServer(url=url, client_id=client, secret=token)


def _said(values: Values, name: str, variable: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return where an address was set, and what was set."""
    option, given = option_name(name), values.text(name)
    if not given and not environ.get(variable):
        raise ConfigError(f"{option}: expected an address for --dispatch-rack, got none; give it, or set {variable}")
    return (option, given) if given else (variable, environ[variable])
