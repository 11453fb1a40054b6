"""How a lab speaks to Testflinger, as its configuration says now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.lab.external_systems import TestflingerUse, TestflingerWatch, WebhookDoor

if TYPE_CHECKING:
    from pytest_dispatch.lab_program.config import TestflingerServer


class TestflingerAccess:
    """One server for as long as the lab runs; what a reload changes is how the lab learns what changes there.

    Args:
        server: The server; None if there is none.

    Attributes:
        watch: How the lab learns what changes there.
    """

    __test__ = False  # no tests, whatever its name begins with

    def __init__(self, server: TestflingerServer | None) -> None:
        self._server = server
        self.watch = _watch(server)

    def renew(self, server: TestflingerServer | None) -> None:
        """Learn what changes there as a new configuration says, from the next look, job or webhook on."""
        self.watch = _watch(server)

    @property
    def use(self) -> TestflingerUse:
        """Return what the lab's kinds get to know of it."""
        server = self._server
        if server is None:
            return TestflingerUse()
        from pytest_dispatch.testflinger.api import Account  # with its HTTP client

        account = Account(server.client_id, server.secret) if server.secret is not None else None
        return TestflingerUse(url=server.url, account=account, watch=lambda: self.watch)


def _watch(server: TestflingerServer | None) -> TestflingerWatch:
    if server is None:
        return TestflingerWatch()
    secret = server.webhook_secret
    door = WebhookDoor(url=server.reached_at, secret=secret) if secret is not None else None
    return TestflingerWatch(interval=server.interval, door=door)
