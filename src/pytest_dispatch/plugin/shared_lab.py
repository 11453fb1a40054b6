"""A lab that pytest did not start: the same calls as for a lab of its own, without a process."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.plugin.shared_lab_settings import SharedLabSettings

if TYPE_CHECKING:
    from pytest_dispatch.client.shared_lab_client import SharedLabClient
    from pytest_dispatch.lab_program.child_messages import Stopped
    from pytest_dispatch.sources.locations import Locations


class SharedLab:
    """A lab that others use too, with the interface of `LabProcess`.

    Args:
        settings: Where it is.
        told: Called with a line for people when it is away, and when it is back.

    Attributes:
        version: Its version; empty before `start`.
    """

    def __init__(self, settings: SharedLabSettings, told: Callable[[str], None]) -> None:
        self._settings = settings
        self._told = told
        self._client: SharedLabClient | None = None
        self.url = settings.url
        self.token = settings.token.reveal()
        self.damage = ""
        self.end: Stopped | None = None
        self.version = ""

    def start(self, _source: str, _locations: Locations | None = None) -> None:
        """Check that it is there, and speaks as we do.

        Raises:
            LabError: It is not, or does not.
        """
        from pytest_dispatch.client.handshake import greeted

        self.version = greeted(self.client(), self._settings.token).version

    def lines(self) -> list[str]:
        """Return the line of the header about ini keys that have no effect."""
        unused = ", ".join(self._settings.unused)
        return [f"dispatch: not used, since the lab's own configuration says that: {unused}"] if unused else []

    def leave(self) -> None:
        """Leave the session, if there is one, to whoever resumes it.

        Raises:
            LabError: The lab does not know of it; it finds out within a minute.
        """
        if self._client is not None and self._client.session_id:
            self._client.leave(self._client.session_id)

    def stop(self) -> None:
        """Do nothing: others use it."""

    def client(self) -> SharedLabClient:
        """Return the client of this process."""
        if self._client is None:
            from pytest_dispatch.client.shared_lab_client import SharedLabClient

            self._client = SharedLabClient(self.url, self.token, self._told)
        return self._client


def owner_of(root: Path) -> str:
    """Return the name by which a lab knows who resumes a session: this user, on this computer, in this folder."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = "somebody"
    return f"{user}@{socket.gethostname()}:{root}"
