"""What pytest's process and the lab's say to each other over the pipe between them.

First pytest's says what to build the lab from, and the lab's whether it could; then the lab's what it logs. None stops
the lab, which is all that it may still be told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_dispatch.sources.places import Places

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_dispatch.core.token import Token
    from pytest_dispatch.machines.base import Spec
    from pytest_dispatch.server.app import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """What a lab is built from.

    Attributes:
        token: For GitHub.
        api_url: Address of its API.
        issues_repo: Where this session's issues are filed; empty for nowhere.
        host: Where it listens, with `port` (0 for a free one) and `path`.
        allow: Networks whose machines may ask; empty for all, or for none but its own where it has some.
        boot_tools: Tools that machines boot by, and not only people look with.
        announce: By mDNS.
        db: The journal's file, or the URL of a database.
        cache_limit: In bytes.
        places: What it may read for its sessions, beside the release assets of `api_url`.
    """

    token: Token | None
    api_url: str
    issues_repo: str
    host: str
    port: int
    path: str
    allow: tuple[Network, ...]
    announce: bool
    machines: tuple[Spec, ...]
    resume: bool
    db: str = field(repr=False)  # a database's URL may hold a password
    cache: Path
    cache_limit: int
    boot_tools: frozenset[str] = frozenset()
    places: Places = field(default_factory=Places)


@dataclass(frozen=True, slots=True)
class Order:
    """Build it.

    Attributes:
        plan: Without its token.
        source: Name of the workloads' source, under which an interrupted session is found again.
        token: Its value, its source, and the API that it is for; empty where there is none.
    """

    plan: Blueprint
    source: str
    token: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Started:
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
