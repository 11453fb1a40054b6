"""JSON as values of declared types, in whatever thread: msgspec learns a type when it first meets it, in one at a time.

Two threads in which it learns types that have parts in common at the same moment crash the process.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_learning = threading.Lock()
_decoders: dict[object, msgspec.json.Decoder[Any]] = {}


def decode(data: bytes | str, shape: type[T]) -> T:
    """What `data` says, as a value of the type `shape`.

    Raises:
        msgspec.ValidationError: It is JSON, and says something else.
        msgspec.DecodeError: It is no JSON.
    """
    decoder = _decoders.get(shape)
    if decoder is None:
        with _learning:
            decoder = _decoders.setdefault(shape, msgspec.json.Decoder(shape))
    value: T = decoder.decode(data)
    return value
