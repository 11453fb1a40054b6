"""What a lab's process and the one that started it say to each other: a line of JSON for each message.

The lab reads its standard input, and writes its standard output:

    ⇒ {"start": {"config": {…}, "source": "workloads"}}
    ⇐ {"ready": {"url": "http://127.0.0.1:8080", "token": …, "damage": ""}}
    ⇒ {"stop": {}}
    ⇐ {"stopped": {"pending": 0, "unfiled": [], "trouble": ""}}

`refused` comes in place of `ready`, and `logged` at any time. A lab whose input ends without `stop` has lost whoever
started it: it says goodbye to the network, and ends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.program.config import LabConfig


@dataclass(frozen=True, slots=True)
class Start:
    """Build a lab.

    Attributes:
        source: Name of the workloads' source, under which an interrupted session is found again.
    """

    config: LabConfig
    source: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End it, as it should be."""


@dataclass(frozen=True, slots=True)
class Ready:
    """It is up.

    Attributes:
        url: `http://HOST:PORT`, as seen from this computer.
        token: Opens its API.
        damage: What was wrong with its journal, or with the port that it has, and is mended; empty if nothing was.
    """

    url: str
    token: str = field(repr=False)
    damage: str


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be started; nothing of it is left.

    Attributes:
        kind: Name of the error's class in `core.errors`.
    """

    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Logged:
    """It has logged something."""

    name: str
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """It is down.

    Attributes:
        pending: Issues that might have been filed any moment.
        unfiled: A line for each reason for which others are not filed.
        trouble: What did not end in time; empty if all did.
    """

    pending: int = 0
    unfiled: tuple[str, ...] = ()
    trouble: str = ""


Message = Start | Stop | Ready | Refused | Logged | Stopped

_SHAPES: dict[str, type[Message]] = {
    "start": Start,
    "stop": Stop,
    "ready": Ready,
    "refused": Refused,
    "logged": Logged,
    "stopped": Stopped,
}
_NAMES = {shape: name for name, shape in _SHAPES.items()}


def encode(message: Message) -> bytes:
    """Return a message as a line; in ASCII, so that file names that are no UTF-8 get through."""
    said = msgspec.to_builtins(message, enc_hook=_plain)
    return json.dumps({_NAMES[type(message)]: said}).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message of a line.

    Raises:
        ConfigError: It is none. What came is not shown: there may be secrets in it.
    """
    try:
        [(name, said)] = json.loads(line).items()
        message: Message = msgspec.convert(said, _SHAPES[name], dec_hook=_revived)
    except (AttributeError, KeyError, RecursionError, ValueError, msgspec.ValidationError) as error:
        why = f"one with a mistake ({error})" if isinstance(error, msgspec.ValidationError) else "something else"
        raise ConfigError(
            f"expected a line of JSON with one of {', '.join(_SHAPES)}, got {why}; see docs/protocol.md"
        ) from None
    return message


def _plain(value: object) -> object:
    """What JSON has no type for."""
    if isinstance(value, Token):
        return {"value": value.reveal(), "source": value.source, "api_url": value.api_url}
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"no way to tell a {type(value).__name__} in JSON")


def _revived(shape: type, value: Any) -> object:
    return Token(**value) if shape is Token else Path(value)
