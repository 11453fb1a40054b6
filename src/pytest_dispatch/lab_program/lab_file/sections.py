"""The keys of a lab file: one class for each mapping, one attribute for each key, its docstring the key's meaning."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pytest_dispatch.core.secrets import PUBLIC_API
from pytest_dispatch.lab_program.lab_file.dispatchoor_templates import as_template
from pytest_dispatch.lab_program.lab_file.fields import (
    DAY,
    Address,
    ApiUrl,
    BootPath,
    BootTool,
    Count,
    Cron,
    Duration,
    HostPort,
    Id,
    Label,
    Line,
    Mac,
    Moment,
    Network,
    Origin,
    ParameterName,
    Pattern,
    Polled,
    Repository,
    Requeues,
    Requirement,
    RoundTime,
    Secret,
    ServiceUrl,
    Spec,
    Text,
    VariableName,
    VariableValue,
    WebUrl,
)
from pytest_dispatch.lab_program.lab_file.notifications import Notifications, TimeOfDay, Zone


class Section(BaseModel):
    """A mapping of a lab file, which has no keys but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)


class Role(StrEnum):
    """What a user may do: read; also queue, cancel and hold; also change the lab."""

    READER = "reader"
    OPERATOR = "operator"
    ADMIN = "admin"


class LogFormat(StrEnum):
    """How the lab writes its log."""

    TEXT = "text"
    JSON = "json"


class UnknownMachine(StrEnum):
    """What becomes of a machine that asks to boot and that nobody has named."""

    APPROVE = "approve"
    WELCOME = "welcome"


# server


class Tls(Section):
    """The certificate of the API and the pages; machines boot over plain HTTP."""

    certificate: Line
    """File with the certificate and those that signed it, in PEM; read again when it changes."""
    key: Line
    """File with its private key, in PEM, without a password."""


class Server(Section):
    """Where the lab listens, and for whom."""

    boot: HostPort = "0.0.0.0:8080"
    """Where machines boot from and report to."""
    api: HostPort = "127.0.0.1:8081"
    """Where pytest, programs and people come. Beyond loopback only with `tls`, `trusted_proxies` or `insecure`."""
    path: BootPath = "/dispatch"
    """Path of the boot URL."""
    public_url: WebUrl | None = None
    """URL by which people reach the lab, for links and for signing in by GitHub; by default the API's address."""
    tls: Tls | None = None
    """Certificate for the API and the pages."""
    trusted_proxies: list[Network] = []
    """Networks of proxies whose `Forwarded` and `X-Forwarded-*` headers count."""
    cors_origins: list[Origin] = []
    """Origins of other web pages that may call the API."""
    insecure: bool = False
    """Serve the API beyond loopback without TLS: everybody on the network can read its tokens."""
    allow: list[Network] = []
    """Networks whose machines may boot; by default all, or only those in `machines` if one of them has a driver."""
    boot_tools: list[BootTool] = []
    """HTTP tools that machines boot with, such as curl."""
    announce: bool = True
    """Announce the lab over mDNS."""
    unknown_machines: UnknownMachine = UnknownMachine.APPROVE
    """Machines that ask to boot and that nobody has named wait until somebody approves them, or are welcome."""
    log: LogFormat = LogFormat.TEXT
    """How the log is written to standard error: a line of text, or of JSON, for each record."""


class Database(Section):
    """Where the lab keeps what it knows."""

    url: Secret | None = None
    """A file, or the URL of a database: `postgresql+psycopg://USER:PASSWORD@HOST/NAME`. By default `lab.db` in the
    user's data directory."""


# auth


class User(Section):
    """Somebody who signs in by name and password."""

    name: Line
    """Name to sign in by."""
    password: Secret
    """Password, or its argon2 hash in the PHC format (`$argon2id$…`)."""
    role: Role = Role.READER
    """What the user may do."""


class SignInByGitHub(Section):
    """Signing in by GitHub: a user has the highest role that one of the mappings gives."""

    client_id: Line
    """Client id of the OAuth App."""
    client_secret: Secret
    """Its secret."""
    url: WebUrl = "https://github.com"
    """The GitHub to sign in at."""
    organizations: dict[Line, Role] = {}
    """Roles by organisation."""
    teams: dict[Line, Role] = {}
    """Roles by team, as ORGANIZATION/TEAM."""
    logins: dict[Line, Role] = {}
    """Roles by login."""


class Auth(Section):
    """Who may sign in."""

    users: list[User] = []
    """Users with a password. Without any, the first start makes an administrator and prints a link to sign in once."""
    github: SignInByGitHub | None = None
    """Signing in by GitHub."""
    session_ttl: Duration = DAY
    """How long somebody stays signed in."""


# github


class App(Section):
    """A GitHub App, which gives tokens for the owner that it is installed for."""

    id: Count
    """Its id."""
    private_key: Line
    """File with its private key, in PEM."""
    installation: Count | None = None
    """Id of its installation; by default the one that GitHub names for the owner."""


class Polling(Section):
    """How often the lab looks at GitHub for runners and runs of Actions."""

    enabled: bool = True
    """Whether it looks at runners at all; without, nothing is sent."""
    interval: Polled = 10.0
    """Time between two looks at an owner's runners, and at a run; longer as the hourly limit of requests shrinks."""


class GitHub(Section):
    """What the lab does at GitHub in its own name."""

    api_url: ApiUrl = PUBLIC_API
    """Base of the API; https://HOST/api/v3 for an Enterprise Server."""
    tokens: dict[Line, Secret] = {}
    """Tokens by owner; `*` is for all other owners."""
    apps: dict[Line, App] = {}
    """GitHub Apps by owner, in place of a token."""
    issue_repositories: list[Repository] = []
    """Repositories in which the lab files issues with its own token."""
    polling: Polling = Polling()
    """How often the lab looks at GitHub for runners and runs of Actions."""
    webhook_secret: Secret | None = None
    """What GitHub signs webhooks with that it sends to `/api/v1/github/webhooks`; without, none are taken."""


# testflinger


class TestflingerSection(Section):
    """The Testflinger server that deployments are submitted to."""

    __test__ = False  # no tests, whatever its name begins with

    url: ServiceUrl | None = None
    """Its address; without, deployments are refused."""
    client_id: Line | None = None
    """Id of the client by which the lab signs in there; by default it does not."""
    client_secret: Secret | None = None
    """The client's secret."""
    webhook_secret: Secret | None = None
    """Has Testflinger tell at once what happens to jobs, at `server.public_url`; each job's address is made with it."""
    interval: Polled = 10.0
    """Time between two looks at agents, and at a job."""


# machines and groups


class Identities(Section):
    """By what a machine is recognised."""

    addresses: list[Address] = []
    """Its IP addresses."""
    macs: list[Mac] = []
    """Its MAC addresses."""
    agents: list[Line] = []
    """Names of programs on it: a self-hosted runner, an agent."""


class MachineSection(Section):
    """A machine that the lab knows beforehand."""

    id: Id
    """Its name."""
    identities: Identities = Identities()
    """By what it is recognised; one that the lab drives needs none if its boot URL can be set."""
    labels: list[Label] = []
    """What it has, for requirements and groups."""
    driver: Spec | None = None
    """How the lab powers it, boots it and reads its console: a SPEC as for `--dispatch-machine`, of one machine."""


class TemplateSection(Section):
    """A stored workload, which people and cycles can queue."""

    id: Id
    """Its name in URLs; unique in the lab."""
    name: Line | None = None
    """The workload's name; by default the id."""
    kind: Line
    """What the payload means, such as `boot` or `actions`."""
    payload: dict[str, Any] = {}
    """What is to be run, as its kind defines it."""
    labels: list[Label] = []
    """For finding it."""
    requires: list[Requirement] = []
    """What a machine must have to run it, beside the group's labels."""
    expect: Line | None = None
    """What makes it complete; one of the values of its kind."""
    limits: dict[Line, Duration] = {}
    """How long it may wait and run, by the names of its kind."""
    requeue: Requeues = 0
    """How often each run of it is queued again once it is over, at most; never after somebody has cancelled it."""

    @model_validator(mode="before")
    @classmethod
    def _of_dispatchoor(cls, given: Any) -> Any:
        """Read a template as dispatchoor's files have it."""
        return as_template(given)


class HealthWorkload(Section):
    """How the machines of a group are checked: by a run of a template of the group."""

    template: Id
    """Id of the template."""
    every: Duration = DAY
    """Time between two checks of a machine."""
    at: TimeOfDay | None = None
    """Time of day from which on checks begin, within an hour; then `every` is whole days. By default at any time."""
    zone: Zone = "UTC"
    """Time zone of `at`."""


class GroupSection(Section):
    """Machines by labels, with a queue order, a limit and templates."""

    id: Id
    """Its name in URLs."""
    name: Line | None = None
    """Its name for people; by default the id."""
    description: Text = ""
    """What it is for."""
    labels: list[Label] = []
    """What a machine must have to belong to it."""
    max_running: Count | None = None
    """How many runs of the group run at once, at most."""
    health: HealthWorkload | None = None
    """How its machines are checked, on a schedule and when the lab holds one."""
    templates: list[TemplateSection] = []
    """Templates, here."""
    template_files: list[Line] = []
    """Files with lists of templates, relative to this file."""
    template_urls: list[WebUrl] = []
    """URLs of such files; fetched when the lab starts and when it reloads."""


# cycles


class ParameterSection(Section):
    """A value that whoever starts a cycle chooses: one of `choices`, or what matches `pattern`."""

    choices: list[Line] = []
    """What it may be."""
    pattern: Pattern | None = None
    """Regular expression that a value matches as a whole, and that repeats no group; a value never begins with - or
    @."""
    default: Annotated[str, Field(max_length=200)] | None = None
    """What it is if nobody says anything; by default the first of `choices`, or nothing."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        """Refuse both or neither."""
        if bool(self.choices) == (self.pattern is not None):
            raise ValueError("expected choices or a pattern, got " + ("both" if self.choices else "neither"))
        return self


class CycleLimits(Section):
    """Limits of a round."""

    round: RoundTime = DAY
    """How long a round takes at most, from 1s on; then it ends as a fault of the lab."""


class CycleSection(Section):
    """A pytest selection that runs again and again; one of `every`, `cron` and `once` says when."""

    name: Id
    """Its name."""
    description: Text = ""
    """What it is for."""
    folder: Line
    """Where its pytest runs, relative to this file: with its `conftest.py`."""
    arguments: list[Line] = []
    """Arguments of pytest; `{NAME}` stands for a parameter, `{{` for a brace."""
    every: RoundTime | None = None
    """Time from the end of a round to the beginning of the next; at least 1s."""
    cron: Cron | None = None
    """Times of day at which rounds begin, in the five fields of cron."""
    zone: Zone = "UTC"
    """Time zone of `cron`."""
    once: Moment | None = None
    """When the only round begins, as in 2026-12-24T02:00:00Z; `true` for as soon as somebody starts the cycle."""
    jitter: Duration = 0.0
    """Most time by which each beginning is put off, at random."""
    group: Id | None = None
    """Group of its runs; its token is for that group alone. By default each run is in the first group that suits it."""
    limits: CycleLimits = CycleLimits()
    """Limits of a round."""
    parameters: dict[ParameterName, ParameterSection] = {}
    """What may be chosen when it is started."""
    environment: dict[VariableName, VariableValue] = {}
    """Variables of its pytest, which has no others of the lab's but PATH, HOME and those for language and time."""
    python: Line | None = None
    """Interpreter that runs pytest, with this package installed: of PATH, or a path, from `folder` on if relative.
    By default the lab's own."""
    user: Line | None = None
    """User of the system as whom it runs, which a lab that runs as root can choose; by default the lab's own."""

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        """Refuse several schedules, and none."""
        given = [name for name in ("every", "cron", "once") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of every, cron and once, got {' and '.join(given) or 'none'}")
        return self


# the rest


class Sources(Section):
    """What workloads the lab reads itself."""

    folders: dict[Id, Line] = {}
    """Folders by name, relative to this file: a workload's `folder:NAME/FILE`."""
    cache: Line | None = None
    """Folder for downloads and uploads; by default in the user's cache directory."""
    cache_limit: Count = 20
    """How many gigabytes that may take."""


class HealthSection(Section):
    """When the lab holds machines, and runs that fail everywhere."""

    faults: Annotated[int, Field(ge=0, le=1000)] = 3
    """Faults of the lab on different workloads in a row that hold a machine; 0 for never."""
    again: Duration = 600.0
    """Time from a check that a held machine has failed to the next; doubled each time, up to a day."""
    run_hold: Duration = DAY
    """How long a run is held that had faults of the lab on two machines; then it is tried on another one."""


class RetentionSection(Section):
    """How long the lab keeps what is over; by default for ever."""

    runs: Duration | None = None
    """Runs with all that is theirs, after their session is over. What is counted by series stays."""
    consoles: Duration | None = None
    """What machines showed on their consoles."""
    texts: Duration | None = None
    """Long texts of reports, and messages of their cases. Titles, cases and outcomes stay with the run."""
    audit: Duration | None = None
    """Who changed what."""


class LimitsSection(Section):
    """Limits for callers, so that none keeps the lab from serving the others."""

    connections: Count = 4096
    """Open connections to each of the two addresses."""
    requests: Count = 32
    """Requests of one machine at once."""
    rate: Count = 2000
    """Requests of one caller each second, in the long run."""
    burst: Count = 10_000
    """Requests of one caller in a burst."""
    report_time: Duration = 300.0
    """Within which a report must arrive and be stored."""


class LabFile(Section):
    """A lab's configuration."""

    server: Server = Server()
    """Where the lab listens, and for whom."""
    database: Database = Database()
    """Where the lab keeps what it knows."""
    auth: Auth = Auth()
    """Who may sign in."""
    github: GitHub = GitHub()
    """What the lab does at GitHub in its own name."""
    testflinger: TestflingerSection = TestflingerSection()
    """The Testflinger server that deployments are submitted to."""
    machines: list[MachineSection] = []
    """Machines that the lab knows beforehand."""
    groups: list[GroupSection] = []
    """Groups of machines; a run is in the one that it names, else in the first whose labels suit it."""
    cycles: list[CycleSection] = []
    """What runs again and again, once somebody has started it."""
    sources: Sources = Sources()
    """What workloads the lab reads itself."""
    retention: RetentionSection = RetentionSection()
    """How long the lab keeps what is over."""
    limits: LimitsSection = LimitsSection()
    """Limits for callers."""
    health: HealthSection = HealthSection()
    """When the lab holds machines, and runs that fail everywhere."""
    notifications: Notifications = Notifications()
    """Who is told of what happens."""
