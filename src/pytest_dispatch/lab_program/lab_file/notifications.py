"""The section `notifications` of a lab file: who is told of what, and when not."""

from __future__ import annotations

from datetime import time
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.notifications import (
    NotificationKind,
    NotificationPlan,
    QuietHours,
    Severity,
    Subscription,
    Target,
)
from pytest_dispatch.core.secrets import SecretUrl
from pytest_dispatch.lab_program.lab_file.fields import Count, Duration, Id, Secret, matching, wrong


def _apprise(url: SecretStr) -> SecretStr:
    from pytest_dispatch.lab.apprise_delivery import check_url

    try:
        check_url(SecretUrl(url.get_secret_value(), "notifications"))
    except ConfigError as error:
        raise wrong(str(error).partition("expected ")[2].partition(", got ")[0]) from None
    return url


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise wrong("a time zone such as Europe/Berlin or UTC") from None
    return name


NotifyUrl = Annotated[Secret, AfterValidator(_apprise)]
TimeOfDay = Annotated[str, matching(r"([01][0-9]|2[0-3]):[0-5][0-9]", "a time of day such as 22:00")]
Zone = Annotated[str, AfterValidator(_zone)]
Scheme = Annotated[str, matching(r"[a-z][a-z0-9+.-]{0,29}", "the scheme of an apprise URL, such as slack or mailtos")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)


class QuietSection(_Section):
    """Hours in which a target is told nothing; what happens in them comes afterwards, in one digest."""

    begin: TimeOfDay
    """When they begin; later than their end if they include midnight."""
    end: TimeOfDay
    """When they end."""
    zone: Zone
    """The time zone of both."""
    critical: bool = False
    """Send critical notifications all the same."""


class TargetSection(_Section):
    """Somebody who is told, and of what."""

    name: Id
    """Its name in logs and in the API; what is still to be sent is kept under it."""
    url: NotifyUrl
    """An apprise URL, such as `mailtos://…` or `slack://…`; it is shown nowhere. Better as `${VARIABLE}`."""
    kinds: list[NotificationKind] = []
    """What it is told of; by default everything."""
    severity: Severity = Severity.WARNING
    """The least severity that it is told of."""
    groups: list[Id] = []
    """Groups that it is told of; by default all. What concerns no group, it is told of always."""
    outcomes: list[Outcome] = []
    """Outcomes of runs and sessions that it is told of; by default all of the severity."""
    quiet: QuietSection | None = None
    """Hours in which it is told nothing."""
    per_hour: Count = 60
    """Messages within an hour; what is beyond comes in one digest when the hour is over."""


class Notifications(_Section):
    """Who is told of what happens."""

    targets: Annotated[list[TargetSection], Field(max_length=100)] = []
    """Who is told."""
    queue_wait: Duration | None = None
    """How long a run may wait for a machine before `queue.slow` is told, once for its group; by default for ever."""
    session_schemes: list[Scheme] = []
    """Schemes of apprise URLs that sessions may name with `--dispatch-notify`; by default none: the lab sends to
    whatever address they name."""


def plan_of(section: Notifications) -> NotificationPlan:
    """Return whom the lab tells of what."""
    return NotificationPlan(
        targets=tuple(map(_target, section.targets)),
        queue_wait=section.queue_wait,
        session_schemes=frozenset(section.session_schemes),
    )


def _target(section: TargetSection) -> Target:
    subscription = Subscription(
        kinds=frozenset(section.kinds),
        severity=section.severity,
        groups=frozenset(section.groups),
        outcomes=frozenset(section.outcomes),
        quiet=_quiet(section.quiet) if section.quiet is not None else None,
        per_hour=section.per_hour,
    )
    return Target(
        name=section.name, url=SecretUrl(section.url.get_secret_value(), section.name), subscription=subscription
    )


def _quiet(section: QuietSection) -> QuietHours:
    return QuietHours(
        begin=time.fromisoformat(section.begin),
        end=time.fromisoformat(section.end),
        zone=ZoneInfo(section.zone),
        critical=section.critical,
    )
