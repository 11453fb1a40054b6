"""Decodes JSON to declared types in any thread; msgspec's decoders are created in one thread at a time.

msgspec crashes the process if two threads create decoders for types with common parts at the same time.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_learning = threading.Lock()
_decoders: dict[object, msgspec.json.Decoder[Any]] = {}


def decode(data: bytes | str, shape: type[T]) -> T:
    """Return `data` as a value of the type `shape`.

    Raises:
        msgspec.ValidationError: The JSON does not match the type.
        msgspec.DecodeError: It is not JSON.
    """
    decoder = _decoders.get(shape)
    if decoder is None:
        with _learning:
            decoder = _decoders.setdefault(shape, msgspec.json.Decoder(shape))
    value: T = decoder.decode(data)
    return value
