"""Values of a workload's payload, as they are given on a command line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pytest_dispatch.cli.command_table import argument
from pytest_dispatch.core.errors import ConfigError

SET = argument(
    "--set", metavar="KEY=VALUE", action="append", default=[], help="a value of its payload; may be repeated"
)


def given_payload(pairs: Iterable[str]) -> dict[str, Any]:
    """Read `KEY=VALUE`; a value that is no JSON is a text.

    Raises:
        ConfigError: One has no key.
    """
    return dict(map(_pair, pairs))


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"--set: expected KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
