"""Content types: which release assets are workloads, and what firmware is told that they are.

Firmware decides by the served media type how it starts the bytes (UEFI 2.10, section 24.7: HTTP
Boot), so the type that marks an asset as a workload is never the one that is served.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from pytest_dispatch.core.model import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping


class Media(NamedTuple):
    """What an asset's content type stands for."""

    kind: Kind
    served: str


#: Content type of a release asset → its kind, and the media type that firmware gets.
#: No other asset takes part.
MEDIA: Mapping[str, Media] = MappingProxyType(
    {
        "application/vnd.dispatch+efi": Media(Kind.EFI, "application/efi"),
        "application/vnd.dispatch+iso": Media(Kind.ISO, "application/vnd.efi-iso"),
        "application/vnd.dispatch+img": Media(Kind.IMG, "application/vnd.efi-img"),
    }
)

#: End of a file name, in lower case → kind: for sources that know no content types.
SUFFIXES: Mapping[str, Kind] = MappingProxyType({f".{kind}": kind for kind in Kind})

_SERVED: Mapping[Kind, str] = MappingProxyType({media.kind: media.served for media in MEDIA.values()})


def kind_of(content_type: str) -> Kind | None:
    """The kind that an asset's content type marks, or `None` where it is no workload.

    Case and parameters do not matter.
    """
    media = MEDIA.get(content_type.partition(";")[0].strip().lower())
    return media.kind if media else None


def served_as(kind: Kind) -> str:
    """The bare media type that firmware gets for a workload of this kind."""
    return _SERVED[kind]
