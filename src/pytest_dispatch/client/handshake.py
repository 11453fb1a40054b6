"""The first words with a lab: whether it accepts the token, and speaks the same version of the API."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from pytest_dispatch.client.connection import MissingError, UnknownTokenError
from pytest_dispatch.client.lab_tokens import WAYS
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.server.api.schemas import API

if TYPE_CHECKING:
    from pytest_dispatch.client.lab_client import LabClient
    from pytest_dispatch.core.secrets import Token
    from pytest_dispatch.server.api.session_schemas import LabView


def greeted(client: LabClient, token: Token) -> LabView:
    """Return what a lab says of itself.

    Raises:
        LabError: It cannot be reached, refuses the token, or speaks another version of the API; says which is too old.
    """
    ours = f"this pytest-dispatch ({version('pytest-dispatch')}, API {API})"
    try:
        view = client.lab()
    except UnknownTokenError:
        why = f"the lab at {client.url} does not accept the token from {token.source}"
        raise LabError(f"{why}; {WAYS} {client.url}") from None
    except MissingError:
        if why := _boot_port_at(client.url):
            raise LabError(why) from None
        raise LabError(f"the lab at {client.url} is too old for {ours}: have it upgraded") from None
    if view.api < API:
        theirs = f"({view.version}, API {view.api})"
        raise LabError(f"the lab at {client.url} {theirs} is too old for {ours}: have it upgraded")
    if view.api > API:
        theirs = f"the lab at {client.url} ({view.version}, API {view.api})"
        raise LabError(f"{ours} is too old for {theirs}: upgrade it with `pip install -U pytest-dispatch`")
    return view


def _boot_port_at(url: str) -> str:
    from pytest_dispatch.client.wrong_address import boot_port_at  # loads what a right address does not need

    return boot_port_at(url)
