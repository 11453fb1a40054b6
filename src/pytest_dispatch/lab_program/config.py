"""The lab's configuration, with values that can be encoded as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.core.templates import Template
from pytest_dispatch.machines.base import Spec
from pytest_dispatch.sources.locations import Locations


@dataclass(frozen=True, slots=True, kw_only=True)
class TestflingerServer:
    """A Testflinger server, and who asks it.

    Attributes:
        url: Its address.
        client_id: Who asks; empty for anybody.
        secret: The client's secret.
        interval: Seconds between two looks at agents, and at a job.
        reached_at: The lab's address, by which it sends webhooks; empty if it sends none.
        webhook_secret: What proves that the lab has made the address of a webhook.
    """

    __test__ = False  # no tests, whatever its name begins with

    url: str
    client_id: str = ""
    secret: Token | None = None
    interval: float = 10.0
    reached_at: str = ""
    webhook_secret: Token | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabConfig:
    """The configuration of a lab.

    Attributes:
        token: GitHub token.
        api_url: Base URL of the GitHub API.
        issues_repo: Repository for this session's issues; empty to file none.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        path: Path of the boot URL.
        allow: Networks whose machines may boot and report, such as `10.0.0.0/8`. If empty, all may, or only the lab's
            own machines if it has any.
        boot_tools: HTTP tools, such as curl, that machines boot with here; requests of other tools get no workload.
        announce: Whether to announce the lab over mDNS.
        machines: Machines that the lab starts itself.
        resume: Whether to resume an interrupted session.
        db: The journal's file, or the URL of a database.
        cache: Folder for release assets.
        cache_limit: Maximum size of the cache in bytes.
        private: Whether the lab belongs to one pytest, and ends with it.
        locations: Folders and APIs that the lab may read for its sessions, beside the release assets of `api_url`.
        groups: Its groups, in order; `lab` is added if it is not among them.
        templates: Workloads that people can queue in these groups.
        poll_interval: Seconds between two looks of a private lab at what changes at GitHub.
        testflinger: The server that deployments are submitted to; None if there is none.
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
    locations: Locations = field(default_factory=Locations)
    groups: tuple[Group, ...] = ()
    templates: tuple[Template, ...] = ()
    poll_interval: float = 5.0
    testflinger: TestflingerServer | None = None
