"""Delivers messages by apprise, which is loaded when the first one is sent, and says nothing of their URLs.

An apprise URL is a secret as a whole. What apprise and the HTTP library below it log during a delivery is not logged:
the last warning becomes the reason of a failure, without any part of the URL.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pytest_dispatch.core.errors import ConfigError, DispatchError
from pytest_dispatch.core.notifications import Severity
from pytest_dispatch.core.plain_text import plain_line

if TYPE_CHECKING:
    from pytest_dispatch.core.secrets import SecretUrl
    from pytest_dispatch.lab.notification_texts import Message

#: Loggers that may name a URL or a part of it.
_LOGGERS = ("apprise", "urllib3.connectionpool", "urllib3.util.retry", "requests")

_TYPES = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "failure"}


class DeliveryError(DispatchError):
    """A message was not taken; it can be tried again."""


#: Warnings of the delivery that goes on in this thread, or in one to which apprise hands it; None outside of one.
_said: ContextVar[list[str] | None] = ContextVar("pytest_dispatch_delivery", default=None)


class _Overheard(logging.Filter):
    """Keeps what a delivery logs from the log, and remembers its warnings; everybody else logs as always."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be logged."""
        said = _said.get()
        if said is None:
            return True
        if record.levelno >= logging.WARNING:
            said.append(record.getMessage())
        return False

    @contextmanager
    def here(self) -> Iterator[list[str]]:
        """Keep what is logged inside the context, and give the warnings among it."""
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)  # adding it again does nothing
        said: list[str] = []
        token = _said.set(said)
        try:
            yield said
        finally:
            _said.reset(token)


_overheard = _Overheard()


def check_url(url: SecretUrl) -> None:
    """Check that apprise knows the kind of URL; nothing is sent. Blocking: it loads apprise.

    Raises:
        ConfigError: It does not, or apprise is not installed. The text does not contain the URL.
    """
    with _overheard.here():
        _service(url)


def deliver(url: SecretUrl, message: Message) -> None:
    """Send a message, blocking.

    Raises:
        DeliveryError: It was not taken; the text does not contain the URL.
        ConfigError: See `check_url`.
    """
    with _overheard.here() as said:
        try:
            sent = _service(url).notify(
                title=message.title,
                body=message.body or message.title,
                notify_type=_TYPES[message.severity],
                body_format="text",
            )
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - a service of apprise may raise anything, with the URL in its text
            raise DeliveryError(f"its service raised {type(error).__name__}") from None
    if not sent:
        why = plain_line(url.scrub(said[-1]), 200) if said else "its service did not say why"
        raise DeliveryError(why)


def _service(url: SecretUrl) -> Any:
    # it loads all its services, some of which use what Python deprecates; nobody here can do anything about that
    warnings.filterwarnings("ignore", module=r"apprise\b")
    try:
        import apprise
    except ImportError:
        raise ConfigError(
            f"{url.source}: expected apprise to send notifications with, got no such package; install"
            " pytest-dispatch[notify]"
        ) from None
    # one service in this thread, whose deadline is ours: apprise's own threads would keep the process from ending
    asset = apprise.AppriseAsset(async_mode=False, service_timeout=0)
    service = apprise.Apprise(asset=asset)
    found = apprise.Apprise.instantiate(url.reveal(), asset=asset) if url.scheme else None
    if found is None or not service.add(found):
        got = f"one that begins with {url.scheme}://" if url.scheme else "something else"
        raise ConfigError(
            f"{url.source}: expected a URL that apprise knows, such as mailtos://… or slack://…, got {got}; see"
            " https://github.com/caronc/apprise/wiki"
        )
    return service
