"""Boot media: which assets and files are workloads, and the media type that firmware gets for them.

Firmware decides by the served media type how to start the bytes (UEFI 2.10, section 24.7: HTTP Boot), so the type that
marks an asset as a workload is never the one that is served. Three media are built in. Any installed package may add
one by an entry point in the group `pytest_dispatch.kinds` whose object is a `Media`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.kinds import KindRules, check_expected
from pytest_dispatch.core.model import Workload

T = TypeVar("T")

GROUP = "pytest_dispatch.media"
KINDS = "pytest_dispatch.kinds"  # entry points of whole kinds of workloads; media are looked up there too
NOBODY_CAME = "no machine took it"  # how the reason begins if no machine took a run
BOOT = "boot"  # the kind of workload that machines boot; the media below belong to it

MOST_BYTES = 2**62  # larger than any disk

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")  # RFC 6838, section 4.2, in lower case


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """One boot medium.

    Attributes:
        kind: Its name, as in `dispatch.toml` and in the mark `dispatch_KIND`; a Python identifier in lower case.
        content_type: The content type of release assets that are such workloads.
        served: The media type that firmware gets.
        suffix: The end of the file names of such workloads, in lower case, with its dot.

    Raises:
        ConfigError: One of them cannot be used.
    """

    kind: str
    content_type: str
    served: str
    suffix: str

    def __post_init__(self) -> None:
        """Check the attributes."""
        if not self.kind.isidentifier() or self.kind != self.kind.lower():
            raise ConfigError(f"kind: expected an identifier in lower case, got {self.kind!r}")
        for name in ("content_type", "served"):
            given = getattr(self, name)
            if not _TYPE.fullmatch(given):
                raise ConfigError(f"{self.kind}: {name}: expected a media type in lower case, got {given!r}")
        if not re.fullmatch(r"\.[a-z0-9]+", self.suffix):
            raise ConfigError(f"{self.kind}: suffix: expected one such as '.efi', got {self.suffix!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BootPayload:
    """The payload of a boot workload.

    Attributes:
        media: What the bytes are, and so how firmware starts them.
        location: Where they are: an absolute path, or the API URL of a release asset. Between pytest's side and a lab
            it is what `sources.places` says, and never a path.
        size: How many they are.
    """

    media: str
    location: str
    size: int

    @classmethod
    def of(cls, workload: Workload) -> BootPayload:
        """Return the payload of a boot workload; one in a journal may say more than is known today."""
        return cls(**{name: workload.payload[name] for name in cls.__slots__})

    @classmethod
    def read(cls, workload: Workload) -> BootPayload:
        """Return the payload of a boot workload from a hook, with symbolic links in its location resolved.

        Raises:
            ConfigError: The payload is invalid.
        """
        where = f"pytest_dispatch_workloads: {workload.name}: payload"
        location = workload.payload.get("location")
        if isinstance(location, os.PathLike):
            workload = replace(workload, payload={**workload.payload, "location": os.fspath(location)})
        payload = cls.checked(workload, where)
        if payload.location.startswith(("http://", "https://")):
            return payload
        if not Path(payload.location).is_absolute():
            raise ConfigError(f"{where}: location: expected an absolute path or a URL, got {payload.location!r}")
        return replace(payload, location=os.path.realpath(payload.location))

    @classmethod
    def checked(cls, workload: Workload, where: str) -> BootPayload:
        """Return the payload of a boot workload from an untrusted source.

        Args:
            workload: The workload; its payload may be invalid.
            where: Where it came from, for the message.

        Raises:
            ConfigError: The payload is invalid.
        """
        try:
            payload = cls(**workload.payload)
        except TypeError as error:
            what = f"expected media, location and size, got {', '.join(workload.payload) or 'nothing'}"
            raise ConfigError(f"{where}: {what}") from error
        if payload.media not in [*known()]:
            raise ConfigError(f"{where}: media: expected one of {', '.join(known())}, got {payload.media!r}")
        size: object = payload.size
        if not isinstance(size, int) or not 0 < size < MOST_BYTES:
            raise ConfigError(f"{where}: size: expected a number of bytes, got {size!r}")
        location: object = payload.location
        if not isinstance(location, str):
            raise ConfigError(f"{where}: location: expected text, got {location!r}")
        return payload

    def as_json(self) -> dict[str, Any]:
        """Return it as a workload's payload."""
        return {"media": self.media, "location": self.location, "size": self.size}


class Expect(StrEnum):
    """What makes a workload complete."""

    REPORT = "report"  # it sends a report
    BOOT = "boot"  # it reports that it booted
    RETURN = "return"  # its machine asks for the next workload


def mark_of(workload: Workload) -> str:
    """Return the short name of a workload's kind, as in its mark: the medium if it boots, else the kind."""
    return str(workload.payload["media"]) if workload.kind == BOOT else workload.kind


BUILT_IN = (
    Media(kind="efi", content_type="application/vnd.dispatch+efi", served="application/efi", suffix=".efi"),
    Media(kind="iso", content_type="application/vnd.dispatch+iso", served="application/vnd.efi-iso", suffix=".iso"),
    Media(kind="img", content_type="application/vnd.dispatch+img", served="application/vnd.efi-img", suffix=".img"),
)


@cache
def _entry_points() -> Any:
    """Return those of all packages, which stand in a file of each: reading them takes some milliseconds."""
    return entry_points()


def _installed(group: str) -> list[EntryPoint]:
    return sorted(_entry_points().select(group=group), key=lambda point: point.name)


@cache
def known() -> Mapping[str, Media]:
    """Return every medium by name.

    Raises:
        ConfigError: A package adds one that cannot be used, or whose name exists already.
    """
    points = sorted([*_installed(GROUP), *_installed(KINDS)], key=lambda point: point.name)
    added = [media for point in points if (media := _load(point)) is not None]
    return gathered([*BUILT_IN, *added])


def gathered(kinds: Iterable[Media]) -> Mapping[str, Media]:
    """Return media by name.

    Raises:
        ConfigError: Two of them share a name, a content type or a suffix.
    """
    found: dict[str, Media] = {}
    for media in kinds:
        for other in found.values():
            for name in ("kind", "content_type", "suffix"):
                if getattr(media, name) == getattr(other, name):
                    raise ConfigError(
                        f"{name} {getattr(media, name)!r}: expected one kind that has it, got two: {GROUP}"
                    )
        found[media.kind] = media
    return found


@cache
def added() -> Mapping[str, KindRules]:
    """Return the rules of the whole kinds that installed packages add, by name.

    Raises:
        ConfigError: One of them cannot be loaded.
    """
    known()  # raises an error if an entry point cannot be loaded
    found = [found.rules for point in _installed(KINDS) if hasattr(found := point.load(), "rules")]
    return {rules.name: rules for rules in found}


def expects() -> list[str]:
    """Return the values of `expect` of all kinds; those of boot workloads come first."""
    others = (expect for rules in added().values() for expect in rules.lifecycles if expect)
    return list(dict.fromkeys([*Expect, *others]))


def check_expect(where: str, workload: Workload, expect: object) -> str:
    """Return an `expect` value that is valid for the workload's kind; for a kind unknown here, the lab checks it.

    Args:
        where: Where the value was set, for the message.
        workload: The workload.
        expect: The value.

    Raises:
        ConfigError: The kind does not know it.
    """
    kind, others = workload.kind, added()
    if kind == BOOT or kind in others:
        check_expected(where, list(Expect if kind == BOOT else others[kind].lifecycles), expect, kind)
    return str(expect)


def files_of(workloads: Iterable[Workload]) -> frozenset[str]:
    """Return the paths and URLs of the files that these workloads boot."""
    return frozenset(BootPayload.of(workload).location for workload in workloads if workload.kind == BOOT)


def _load(point: EntryPoint) -> Media | None:
    whole_kinds_too = point.group == KINDS
    return loaded(point, Media, beside=lambda found: whole_kinds_too and hasattr(found, "rules"))


def loaded(point: EntryPoint, wanted: type[T], beside: Callable[[object], bool]) -> T | None:
    """Load the object that an entry point names.

    Args:
        point: The entry point.
        wanted: The expected type.
        beside: Returns whether an object is of another type that is allowed in this group.

    Returns:
        The object if it is of the expected type; None if `beside` accepts it.

    Raises:
        ConfigError: It cannot be loaded, or is of neither type.
    """
    where = f"the entry point {point.name} = {point.value} in {point.group}"
    try:
        found = point.load()
    except (ImportError, AttributeError, ConfigError) as error:
        got = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{where}: expected a {wanted.__name__} there, got {got}") from error
    if isinstance(found, wanted):
        return found
    if beside(found):
        return None
    raise ConfigError(f"{where}: expected a {wanted.__name__}, got {found!r}")


def kind_of(content_type: str) -> str | None:
    """Return the medium that an asset's content type marks, or `None` if the asset is not a workload.

    Case and parameters are ignored.
    """
    bare = content_type.partition(";")[0].strip().lower()
    return next((media.kind for media in known().values() if media.content_type == bare), None)


def kind_by_suffix(suffix: str) -> str | None:
    """Return the name of the medium with this suffix, in any case, or `None`; for sources without content types."""
    media = media_by_suffix(suffix)
    return media.kind if media is not None else None


def media_by_suffix(suffix: str) -> Media | None:
    """Return the medium with this file suffix, in any case, or `None`."""
    return next((media for media in known().values() if media.suffix == suffix.lower()), None)


def served_as(kind: str) -> str:
    """Return the media type, without parameters, that firmware gets for this medium.

    Raises:
        LookupError: The package that added the medium was uninstalled; happens in a resumed session.
    """
    media = known().get(kind)
    if media is None:
        raise LookupError(f"kind {kind!r}: expected an installed package that adds it ({GROUP}), got none")
    return media.served
