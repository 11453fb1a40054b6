"""Templates as a source of workloads: those of a file, and those of a group of a lab that others use too."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.plugin.listing import as_booted
from pytest_dispatch.sources.base import Listing

if TYPE_CHECKING:
    from pytest_dispatch.core.secrets import Token
    from pytest_dispatch.lab_program.lab_file.templates import TemplateFile


def read_template_file(path: Path, group: str) -> TemplateFile:
    """Read the file that `--dispatch-actions` names.

    Raises:
        ConfigError: It cannot be used.
    """
    from pytest_dispatch.lab_program.lab_file.missing_packages import require_serve

    require_serve()
    from pytest_dispatch.lab_program.lab_file.templates import read_templates  # needs the packages just looked for

    try:
        return read_templates(path, group, os.environ)
    except ConfigError as error:
        raise ConfigError(f"--dispatch-actions: {error}") from None


def list_file(templates: TemplateFile, shown_as: str) -> Listing:
    """Return the templates of a file as a listing.

    Args:
        templates: The templates.
        shown_as: The file as it is called in the header, and as an interrupted session is found again.
    """
    groups = tuple(each.id for each in templates.groups)
    return Listing(name=shown_as, workloads=templates.workloads, left_out=templates.left_out, groups=groups)


def list_group(url: str, token: Token, group: str) -> Listing:
    """List the templates of a group of a lab.

    Args:
        url: Address of the lab's API.
        token: For the API.
        group: Id of the group.

    Raises:
        ConfigError: The group has no templates.
        LabError: The lab cannot be reached, or has no such group.
    """
    from pytest_dispatch.client.handshake import greeted
    from pytest_dispatch.client.lab_client import LabClient
    from pytest_dispatch.server.api.group_schemas import TemplateView

    with closing(LabClient(url, token.reveal())) as client:
        greeted(client, token)
        found = client.connection.ask(list[TemplateView], "GET", f"/groups/{quote(group, '')}/templates")
    if not found:
        raise ConfigError(
            f"--dispatch-group: expected a group of the lab with templates, got {group!r}, which has none"
        )
    workloads = tuple(as_booted(replace(each.workload, name=each.id, group=group), shared=True) for each in found)
    return Listing(name=group, workloads=workloads, groups=(group,))
