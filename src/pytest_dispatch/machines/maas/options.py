"""The options of a SPEC such as `maas://node-7?deploy=noble`: where MAAS is, and what it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pytest_dispatch.core.errors import ConfigError, MachineError
from pytest_dispatch.core.plain_text import is_name
from pytest_dispatch.maas.api import MaasKey
from pytest_dispatch.support.service_client import read_base

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_dispatch.machines.base import Spec

OPTIONS = ("url", "token", "every", "deploy", "broken")
BOOT = (
    "MAAS has no operation that says what a machine boots once; set its firmware, or its network, to boot the lab's"
    " URL, and say its address= instead"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaasOptions:
    """What a SPEC says, with what the environment adds.

    Attributes:
        url: Address of MAAS.
        key: Its API key.
        every: Seconds between two looks at its power.
        deploy: The release that a machine is deployed with when the lab takes it; empty for none.
        marks: Whether MAAS is told of machines that the lab holds as broken.
    """

    url: str
    key: MaasKey
    every: float
    deploy: str
    marks: bool


def read_options(spec: Spec, environ: Mapping[str, str]) -> MaasOptions:
    """Read the options of a SPEC.

    Options: `url` and `token` (MAAS's address and API key; by default `MAAS_URL` and `MAAS_API_KEY`), `every` (seconds
    between two looks, 10), `deploy` (a release: a machine that is ready is deployed with it, and released in the end),
    `broken=mark` (MAAS is told of machines that the lab holds as broken).

    Raises:
        ConfigError: An option is unknown, or its value is invalid.
        MachineError: Neither it nor the environment has an address or a key.
    """
    given = {key: unquote(value) for key, value in spec.options}
    if "boot" in given:
        raise ConfigError(f"{spec.given}: {BOOT}")
    if unknown := [key for key in given if key not in OPTIONS]:
        raise ConfigError(f"{spec.given}: unknown option {unknown[0]!r}; maas knows {', '.join(OPTIONS)}")
    every, deploy, marks = _every(spec, given), given.get("deploy", ""), given.get("broken")
    if "deploy" in given and not is_name(deploy):
        raise ConfigError(f"{spec.given}: expected a release such as noble behind deploy=, got {deploy[:80]!r}")
    if marks not in (None, "mark"):
        raise ConfigError(f"{spec.given}: expected mark behind broken=, got {marks[:80]!r}")
    if marks and not deploy:
        raise ConfigError(
            f"{spec.given}: expected broken=mark with deploy=, got it without: MAAS releases what is marked broken, and"
            " nobody would deploy it again"
        )
    url = read_base(*_said(spec, given, "url", "MAAS_URL", environ))
    key = MaasKey.read(*_said(spec, given, "token", "MAAS_API_KEY", environ), url)
    return MaasOptions(url=url, key=key, every=every, deploy=deploy, marks=bool(marks))


def _said(
    spec: Spec, given: Mapping[str, str], option: str, variable: str, environ: Mapping[str, str]
) -> tuple[str, str]:
    """Return where something was set, and what was set."""
    if option in given:
        return f"{spec.given}: {option}", given[option]
    if environ.get(variable):
        return variable, environ[variable]
    raise MachineError(f"{spec.given}: expected {option}=, or {variable} in the environment, got neither")


def _every(spec: Spec, given: Mapping[str, str]) -> float:
    text = given.get("every", "10")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 3600:
        raise ConfigError(f"{spec.given}: expected seconds from 1 to 3600 behind every=, got {text[:80]!r}")
    return float(text)
