"""What a lab is built from, in values that can be told in JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pytest_dispatch.core.secrets import Token
from pytest_dispatch.machines.base import Spec
from pytest_dispatch.sources.locations import Places


@dataclass(frozen=True, slots=True, kw_only=True)
class LabConfig:
    """What a lab is built from.

    Attributes:
        token: For GitHub.
        api_url: Address of its API.
        issues_repo: Where this session's issues are filed; empty for nowhere.
        host: Where it listens, with `port` (0 for a free one) and `path`.
        allow: Networks whose machines may ask, such as `10.0.0.0/8`; empty for all, or for none but its own where it
            has some.
        boot_tools: Tools that machines boot by, and not only people look with.
        announce: By mDNS.
        db: The journal's file, or the URL of a database.
        cache_limit: In bytes.
        private: It is of one pytest, and ends with it.
        places: What it may read for its sessions, beside the release assets of `api_url`.
    """

    token: Token | None = None
    api_url: str
    issues_repo: str = ""
    host: str
    port: int
    path: str
    allow: tuple[str, ...]
    announce: bool
    machines: tuple[Spec, ...]
    resume: bool = False
    db: str = field(repr=False)  # a database's URL may hold a password
    cache: Path
    cache_limit: int
    boot_tools: frozenset[str] = frozenset()
    private: bool = True
    places: Places = field(default_factory=Places)
