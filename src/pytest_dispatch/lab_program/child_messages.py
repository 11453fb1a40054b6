"""The messages between a lab's process and its parent: one line of JSON for each.

The lab reads them from standard input, and writes them to standard output:

    ⇒ {"start": {"config": {…}, "source": "workloads"}}
    ⇐ {"ready": {"url": "http://127.0.0.1:8080", "token": …, "damage": ""}}
    ⇒ {"stop": {}}
    ⇐ {"stopped": {"pending": 0, "unfiled": [], "trouble": ""}}

`refused` comes in place of `ready`, and `logged` at any time. If a lab's input ends without `stop`, its parent is gone:
the lab withdraws its mDNS announcement, and ends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.lab_program.config import LabConfig


@dataclass(frozen=True, slots=True)
class Start:
    """Build a lab.

    Attributes:
        source: Name of the workloads' source, by which an interrupted session is found.
        path: Folders from which drivers are imported, beside the standard library; empty to keep those there are.
        environ: What has changed in the parent's environment since it spawned the lab; None for what is gone.
    """

    config: LabConfig
    source: str
    path: tuple[str, ...] = ()
    environ: dict[str, str | None] = field(default_factory=dict, repr=False)  # it may hold secrets


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the lab in order, and end."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The lab is ready.

    Attributes:
        url: `http://HOST:PORT`, as seen from this computer.
        token: Bearer token of its API.
        damage: A repaired problem with the journal or the port, in words; empty if there was none.
    """

    url: str
    token: str = field(repr=False)
    damage: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The lab cannot be started; nothing is left running.

    Attributes:
        kind: Name of the error's class in `core.errors`.
    """

    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Logged:
    """A log record of the lab."""

    name: str
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The lab has stopped.

    Attributes:
        pending: Number of issues still waiting to be filed.
        unfiled: A line for each reason why other issues are not filed.
        trouble: What did not end in time; empty if everything did.
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
    """Return a message as a line in ASCII, so that file names that are not UTF-8 survive."""
    said = msgspec.to_builtins(message, enc_hook=_plain)
    return json.dumps({_NAMES[type(message)]: said}).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message in a line.

    Raises:
        ConfigError: The line is no message. The error does not show the line, which may contain secrets.
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
    """Return a JSON-compatible form of a value for which JSON has no type."""
    if isinstance(value, Token):
        return {"value": value.reveal(), "source": value.source, "api_url": value.api_url}
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"no way to tell a {type(value).__name__} in JSON")


def _revived(shape: type, value: Any) -> object:
    return Token(**value) if shape is Token else Path(value)
