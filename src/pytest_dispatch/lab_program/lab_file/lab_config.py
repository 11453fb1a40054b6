"""Makes from a lab file what a lab is built from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path
from pydantic import BaseModel

from pytest_dispatch.core.cycle_plan import CyclePlan, Schedule
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.health import HealthRules
from pytest_dispatch.core.health_schedule import HealthPlan, TimeOfDay
from pytest_dispatch.core.machine import Identity
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.core.requirements import read_labels
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.core.templates import Template
from pytest_dispatch.github.api import checked_api_url
from pytest_dispatch.lab.external_systems import GitHubWatch
from pytest_dispatch.lab.history import Keep
from pytest_dispatch.lab.roster import Roster, RosterMachine
from pytest_dispatch.lab_program import option_values as values
from pytest_dispatch.lab_program.config import LabConfig, TestflingerServer
from pytest_dispatch.lab_program.lab_file.cycle_check import parameter_of
from pytest_dispatch.lab_program.lab_file.key_names import KeyNames
from pytest_dispatch.lab_program.lab_file.notifications import plan_of
from pytest_dispatch.lab_program.lab_file.reading import ReadLabFile, SourcedTemplate, read_lab_file
from pytest_dispatch.lab_program.lab_file.sections import LabFile, LogFormat, UnknownMachine
from pytest_dispatch.lab_program.lab_file.template_check import workload_of
from pytest_dispatch.lab_program.paths import default_journal
from pytest_dispatch.lab_program.service_config import ANY_OWNER, ServiceConfig
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.auth.settings import AccessSettings, ConfiguredUser, GitHubSignIn, TlsFiles
from pytest_dispatch.server.limits.bounds import ServerLimits
from pytest_dispatch.sources.locations import Locations

if TYPE_CHECKING:
    from pytest_dispatch.lab_program.lab_file.sections import (
        CycleSection,
        GroupSection,
        HealthWorkload,
        MachineSection,
    )

FETCH = 30.0  # longest wait for templates at a URL, in seconds
MOST_FETCHED = 4 * 2**20  # bytes of templates at a URL


def read_service(path: Path, environ: Mapping[str, str]) -> tuple[LabConfig, ServiceConfig]:
    """Read a lab file, and return what a lab is built from.

    Raises:
        ConfigError: Something in the file, or in what it names, cannot be used.
    """
    found = read_lab_file(path, environ, fetched)
    try:
        return _lab(found), _service(found, environ)
    except ConfigError as error:
        raise KeyNames(found.document).by_key(error) from None


def fetched(url: str) -> str:
    """Return the text at a URL.

    Raises:
        ConfigError: It cannot be fetched.
    """
    import httpx

    try:
        with httpx.stream("GET", url, timeout=FETCH, follow_redirects=True) as answer:
            answer.raise_for_status()
            data = b""
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > MOST_FETCHED:
                    raise ConfigError(f"expected at most {MOST_FETCHED} bytes at {url}, got more")
            return data.decode()
    except httpx.HTTPStatusError as error:
        raise ConfigError(f"expected templates at {url}, got {error.response.status_code}") from None
    except (httpx.HTTPError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected templates at {url}, got {type(error).__name__}: {error}") from None


def roster_of(found: ReadLabFile) -> Roster:
    """Return the machines, groups, templates and cycles of a lab file.

    Raises:
        ConfigError: A cycle's arguments name what it does not declare, or a default is not allowed.
    """
    beside = found.path.parent.absolute()
    return Roster(
        machines=tuple(map(_machine, found.content.machines)),
        groups=tuple(map(_group, found.content.groups)),
        templates=tuple(map(_template, found.templates)),
        cycles=tuple(_cycle(each, beside) for each in found.content.cycles),
    )


def _cycle(section: CycleSection, beside: Path) -> CyclePlan:
    try:
        return CyclePlan(
            name=section.name,
            description=section.description,
            folder=str(_beside(beside, section.folder)),
            arguments=tuple(section.arguments),
            schedule=Schedule(
                every=section.every or 0.0,
                cron=section.cron or "",
                zone=section.zone,
                once=section.once,
                jitter=section.jitter,
            ),
            group=section.group or "",
            limit=section.limits.round,
            parameters=tuple(parameter_of(name, each) for name, each in section.parameters.items()),
            environment={name: value.get_secret_value() for name, value in section.environment.items()},
            python=section.python or "",
            user=section.user or "",
        )
    except ConfigError as error:
        raise ConfigError(f"cycle {section.name}: {error}") from None


def _lab(found: ReadLabFile) -> LabConfig:
    content, beside = found.content, found.path.parent.absolute()
    host, port = values.read_bind(content.server.boot)
    return LabConfig(
        token=_tokens(found.content).get(ANY_OWNER),
        api_url=checked_api_url(content.github.api_url),
        host=host,
        port=port,
        path=content.server.path,
        allow=tuple(map(values.read_network, content.server.allow)),
        boot_tools=frozenset(map(values.read_boot_tool, content.server.boot_tools)),
        announce=content.server.announce,
        machines=(),
        db=_journal(content, beside),
        cache=_beside(beside, content.sources.cache) if content.sources.cache else _cache(),
        cache_limit=content.sources.cache_limit * 10**9,
        private=False,
        testflinger=_testflinger(content),
        locations=Locations(
            folders={name: str(_beside(beside, each).resolve()) for name, each in content.sources.folders.items()},
            apis=(),
        ),
    )


def _testflinger(content: LabFile) -> TestflingerServer | None:
    """Return the server that deployments are submitted to; None if there is none."""
    given, reached_at = content.testflinger, (content.server.public_url or "").rstrip("/")
    if given.url is None:
        return None
    name, secret = "testflinger.client_secret", given.client_secret
    token = Token(secret.get_secret_value(), name, given.url) if secret is not None else None
    hooks = given.webhook_secret
    return TestflingerServer(
        url=given.url.rstrip("/"),
        client_id=given.client_id or "",
        secret=token,
        interval=given.interval,
        reached_at=reached_at if hooks is not None else "",
        webhook_secret=Token(hooks.get_secret_value(), "testflinger.webhook_secret") if hooks is not None else None,
    )


def _service(found: ReadLabFile, environ: Mapping[str, str]) -> ServiceConfig:
    content, beside = found.content, found.path.parent.absolute()
    host, port = values.read_bind(content.server.api)
    return ServiceConfig(
        api_host=host,
        api_port=port,
        access=_access(content, beside),
        cors_origins=tuple(content.server.cors_origins),
        tokens={**_tokens(content), **_app_tokens(content, beside)},
        issue_repositories=tuple(content.github.issue_repositories),
        roster=roster_of(found),
        keys=_keys(content),
        read=lambda: read_service(found.path, environ)[1],
        by_key=KeyNames(found.document).by_key,
        keep=Keep(runs=content.retention.runs, consoles=content.retention.consoles, texts=content.retention.texts),
        bounds=_bounds(content),
        log_json=content.server.log is LogFormat.JSON,
        notifications=plan_of(content.notifications),
        health=HealthRules(faults=content.health.faults, again=content.health.again, run_hold=content.health.run_hold),
        welcome=content.server.unknown_machines is UnknownMachine.WELCOME,
        watch=GitHubWatch(
            polls=content.github.polling.enabled,
            interval=content.github.polling.interval,
            webhook_secret=_webhook_secret(content),
        ),
        testflinger=_testflinger(content),
    )


def _keys(content: LabFile) -> dict[str, object]:
    """Return the keys that are not the roster's with their values, as `SECTION.KEY`."""
    sections = {name: getattr(content, name) for name in LabFile.model_fields}
    return {
        f"{name}.{key}": getattr(section, key)
        for name, section in sections.items()
        if isinstance(section, BaseModel)
        for key in type(section).model_fields
    }


def _access(content: LabFile, beside: Path) -> AccessSettings:
    tls = content.server.tls
    return AccessSettings(
        users=tuple(
            ConfiguredUser(name=user.name, password=user.password.get_secret_value(), role=Role(user.role))
            for user in content.auth.users
        ),
        github=_sign_in(content),
        session_ttl=content.auth.session_ttl,
        audit_kept=content.retention.audit,
        tls=TlsFiles(certificate=_beside(beside, tls.certificate), key=_beside(beside, tls.key)) if tls else None,
        trusted_proxies=tuple(map(values.read_network, content.server.trusted_proxies)),
        public_url=content.server.public_url or "",
        insecure=content.server.insecure,
    )


def _sign_in(content: LabFile) -> GitHubSignIn | None:
    given = content.auth.github
    if given is None:
        return None
    roles = {
        name: {key: Role(role) for key, role in getattr(given, name).items()}
        for name in ("organizations", "teams", "logins")
    }
    return GitHubSignIn(
        client_id=given.client_id,
        client_secret=given.client_secret.get_secret_value(),
        url=given.url,
        api_url=checked_api_url(content.github.api_url),
        organizations=roles["organizations"],
        teams=roles["teams"],
        logins=roles["logins"],
    )


def _bounds(content: LabFile) -> ServerLimits:
    limits = content.limits
    return replace(
        ServerLimits(),
        connections=limits.connections,
        requests=limits.requests,
        rate=float(limits.rate),
        burst=limits.burst,
        body=limits.report_time,
    )


def _tokens(content: LabFile) -> dict[str, Token]:
    api_url = checked_api_url(content.github.api_url)
    return {
        owner: Token(token.get_secret_value(), f"github.tokens.{owner}", api_url)
        for owner, token in content.github.tokens.items()
    }


def _webhook_secret(content: LabFile) -> Token | None:
    given = content.github.webhook_secret
    return Token(given.get_secret_value(), "github.webhook_secret") if given is not None else None


def _app_tokens(content: LabFile, beside: Path) -> dict[str, Token]:
    """Return the tokens of GitHub Apps by owner; GitHub is not asked for any yet.

    Raises:
        ConfigError: A private key cannot be used.
    """
    if not content.github.apps:
        return {}
    from pytest_dispatch.github.app_token import AppKey, AppToken

    api_url = checked_api_url(content.github.api_url)
    return {
        owner: AppToken(
            AppKey(app.id, _beside(beside, app.private_key), f"github.apps.{owner}"), owner, app.installation, api_url
        )
        for owner, app in content.github.apps.items()
    }


def _journal(content: LabFile, beside: Path) -> str:
    """Return where the journal is: the path of a file, or the URL of a database.

    Raises:
        ConfigError: There is no driver for the URL.
    """
    if content.database.url is None:
        return str(default_journal())
    given = content.database.url.get_secret_value()
    if "://" not in given:
        return str(_beside(beside, given))
    return values.read_database(given)


def _cache() -> Path:
    return user_cache_path("pytest-dispatch") / "assets"


def _beside(folder: Path, name: str) -> Path:
    return values.read_place(name, name, folder)


# Machines, groups, templates


def _machine(section: MachineSection) -> RosterMachine:
    where = f"machines: {section.id}: driver"
    driver = values.read_spec(section.driver, where) if section.driver is not None else None
    return RosterMachine(
        id=section.id,
        identities=tuple(_identities(section)),
        labels=read_labels(section.labels, f"machine {section.id}"),
        driver=driver,
    )


def _identities(section: MachineSection) -> Iterator[Identity]:
    known = section.identities
    for known_by, given in (
        (KnownBy.ADDRESS, known.addresses),
        (KnownBy.MAC, known.macs),
        (KnownBy.AGENT, known.agents),
    ):
        for value in given:
            yield Identity(known_by, value)


def _group(section: GroupSection) -> Group:
    return Group(
        id=section.id,
        name=section.name or "",
        description=section.description,
        labels=read_labels(section.labels, f"group {section.id}"),
        max_running=section.max_running,
        health=_health(section.health) if section.health is not None else None,
    )


def _health(section: HealthWorkload) -> HealthPlan:
    begin = None
    if section.at is not None:
        hour, minute = map(int, section.at.split(":"))
        begin = TimeOfDay(hour=hour, minute=minute, zone=section.zone)
    return HealthPlan(template=section.template, every=section.every, begin=begin)


def _template(sourced: SourcedTemplate) -> Template:
    section = sourced.template
    return Template(
        id=section.id,
        group=sourced.group,
        workload=workload_of(section),
        requeue=section.requeue,
        source=sourced.source,
    )
