"""The types of values in a lab file: each checks what is written, and says what it expects instead."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from pytest_dispatch.core.duration import parse_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.moments import LONGEST
from pytest_dispatch.core.requirements import read_labels, read_requirements
from pytest_dispatch.core.run_options import MOST_REQUEUES
from pytest_dispatch.github.api import checked_api_url
from pytest_dispatch.lab_program import option_values as values
from pytest_dispatch.support.cron import check_cron
from pytest_dispatch.support.service_client import read_base

DAY = 86_400.0  # seconds
_REPEATED_GROUP = re.compile(r"\)[*+{]")


def wrong(expected: str) -> PydanticCustomError:
    """Return the error for a value in place of which something else was expected."""
    return PydanticCustomError("lab_file", "{expected}", {"expected": f"expected {expected}"})


def checked(read: Callable[[str], object], expected: str = "") -> AfterValidator:
    """Return a validator that keeps a text which `read` accepts.

    Args:
        read: Raises ConfigError for any other text.
        expected: What was expected; by default what the error says of it.
    """

    def check(text: str) -> str:
        try:
            read(text)
        except ConfigError as error:
            said = str(error).partition("expected ")[2].partition(", got ")[0].partition("; ")[0]
            raise wrong(expected or said or str(error)) from None
        return text

    return AfterValidator(check)


def matching(pattern: str, expected: str) -> AfterValidator:
    """Return a validator that keeps a text which a regular expression matches as a whole."""
    known = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not known.fullmatch(text):
            raise wrong(expected)
        return text

    return AfterValidator(check)


def _seconds(value: Any) -> float:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    try:
        if isinstance(text, str) and (days := re.fullmatch(r"([0-9]{1,6})d", text.strip())):
            return int(days[1]) * DAY
        if isinstance(text, str):
            return parse_duration(text)
    except ConfigError:
        pass
    raise wrong("a duration such as 30s, 5m, 1h30m or 90d")


def _second_or_longer(seconds: float) -> float:
    if not 1 <= seconds <= LONGEST:
        raise wrong("a duration of at least 1s and at most 100 years")
    return seconds


def _variable(value: SecretStr) -> SecretStr:
    if "\0" in value.get_secret_value():
        raise wrong("a text without the character NUL, which no variable can have")
    return value


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or text != f"{parts.scheme}://{parts.netloc}":
        raise wrong("an origin such as https://pages.example.org, without a path")
    return text.lower()


def _web(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise wrong("a URL such as https://lab.example.org, without user and password")
    return text


def _network(text: str) -> str:
    return values.read_network(text)


def _mac(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}", text):
        raise wrong("a MAC address such as 52:54:00:12:34:56")
    return text.replace("-", ":").lower()


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise wrong("an address such as 192.168.1.31 or fd00::31") from None


def _cron(text: str) -> str:
    try:
        check_cron(text)
    except ValueError as error:
        raise wrong(str(error).partition("expected ")[2].partition(", got ")[0]) from None
    return text


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise wrong(f"a regular expression: {error}") from None
    if _REPEATED_GROUP.search(text):
        raise wrong("a regular expression that repeats no group: whether a value matches could take for ever")
    return text


def _moment(value: Any) -> float:
    """Return a time in seconds since 1970; 0 for `true`."""
    if value is True:
        return 0.0
    try:
        read = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise wrong("a time such as 2026-12-24T02:00:00Z, or true") from None
    return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()


#: The id of a group, a machine or a template: it stands in URLs and on command lines.
Id = Annotated[
    str,
    matching(
        r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
        "a name of at most 63 letters, digits and the signs . _ -, such as rack-1",
    ),
]
Text = Annotated[str, Field(max_length=10_000)]
Line = Annotated[str, matching(r"[^\x00-\x1f]{1,200}", "a line of at most 200 characters")]
Secret = Annotated[SecretStr, Field(min_length=1)]
VariableValue = Annotated[Secret, AfterValidator(_variable)]
HostPort = Annotated[str, checked(values.read_bind)]
BootPath = Annotated[str, checked(values.read_path)]
Network = Annotated[str, checked(_network)]
BootTool = Annotated[str, checked(values.read_boot_tool)]
Origin = Annotated[str, AfterValidator(_origin)]
WebUrl = Annotated[str, AfterValidator(_web)]
ApiUrl = Annotated[str, checked(checked_api_url, "the URL of a GitHub API, such as https://api.github.com")]
ServiceUrl = Annotated[str, checked(lambda text: read_base("", text), "an https:// address")]
Repository = Annotated[str, matching(r"[\w.-]{1,100}/[\w.-]{1,100}", "a repository such as OWNER/REPO")]
Spec = Annotated[str, checked(values.read_spec)]
Mac = Annotated[str, AfterValidator(_mac)]
Address = Annotated[str, AfterValidator(_address)]
Label = Annotated[str, checked(lambda text: read_labels([text], ""), "a label such as arch=x86_64 or gpu")]
Requirement = Annotated[
    str, checked(lambda text: read_requirements([text], ""), "a requirement such as arch=x86_64, memory>=64 or !broken")
]
Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema({"type": "string", "description": "a duration: 30s, 5m, 1h30m or 90d", "examples": ["24h", "90d"]}),
]
RoundTime = Annotated[Duration, AfterValidator(_second_or_longer)]
Polled = Annotated[Duration, Field(ge=1, le=600)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Requeues = Annotated[int, Field(ge=0, le=MOST_REQUEUES)]
Cron = Annotated[str, AfterValidator(_cron)]
Pattern = Annotated[str, AfterValidator(_pattern)]
ParameterName = Annotated[
    str, matching(r"[a-z][a-z0-9_]{0,39}", "a name of small letters, digits and _, such as distro")
]
VariableName = Annotated[str, matching(r"[A-Za-z_][A-Za-z0-9_]{0,99}", "a variable's name such as MAAS_URL")]
Moment = Annotated[
    float,
    BeforeValidator(_moment),
    WithJsonSchema({"type": ["string", "boolean"], "description": "a time such as 2026-12-24T02:00:00Z, or true"}),
]
