"""Reads the templates of a file as a source of workloads: of a lab file, or of a list, as dispatchoor has it too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.groups import Group, no_group
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.templates import Template
from pytest_dispatch.lab_program.lab_file import document as yaml
from pytest_dispatch.lab_program.lab_file.lab_config import fetched, roster_of
from pytest_dispatch.lab_program.lab_file.reading import LabFileError, ReadLabFile, read_lab_file, text_of
from pytest_dispatch.workloads.actions.payload import ACTIONS

MOST_NAMED = 3  # templates of other kinds that a refusal names


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateFile:
    """The templates of a file.

    Attributes:
        workloads: Each is called by the id of its template, and is in the template's group.
        left_out: Ids of templates of other kinds, and why they are left out.
        groups: The groups that have any of them.
        interval: Seconds between two looks at GitHub; None if the file does not say so.
    """

    workloads: tuple[Workload, ...]
    left_out: tuple[tuple[str, str], ...]
    groups: tuple[Group, ...]
    interval: float | None


def read_templates(path: Path, group: str, environ: Mapping[str, str]) -> TemplateFile:
    """Read the templates of GitHub Actions of a file.

    Args:
        path: A list of templates, as `template_files` of a lab file names one, or a lab file, of which `groups` and
            `github.polling` count.
        group: The group of templates in a list, or the one of a lab file to read; empty for a group called as the file,
            or for all groups.
        environ: Variables that the file may name.

    Raises:
        ConfigError: The file cannot be used; has a line for each reason.
        NoGroupError: The lab file has no such group.
    """
    found = _read(path, group, environ)
    roster, polling = roster_of(found), found.content.github.polling
    wanted = [each for each in roster.templates if not group or each.group == group]
    if group and group not in [each.id for each in roster.groups]:
        raise no_group(group, (each.id for each in roster.groups))
    kept = [each for each in wanted if each.workload.kind == ACTIONS]
    ours = tuple(replace(each.workload, name=each.id, group=each.group) for each in kept)
    if not ours:
        others = ", ".join(f"{each.id} of the kind {each.workload.kind}" for each in wanted[:MOST_NAMED]) or "none"
        more = f" and {len(wanted) - MOST_NAMED} more" if len(wanted) > MOST_NAMED else ""
        raise ConfigError(f"{path}: expected templates of the kind {ACTIONS}, got {others}{more}")
    used = {each.group for each in ours}
    return TemplateFile(
        workloads=ours,
        left_out=tuple((each.id, _other(each)) for each in wanted if each.workload.kind != ACTIONS),
        groups=tuple(replace(each, health=None) for each in roster.groups if each.id in used),
        interval=polling.interval if "interval" in polling.model_fields_set else None,
    )


def _read(path: Path, group: str, environ: Mapping[str, str]) -> ReadLabFile:
    """Return what a file says; a list of templates is what a lab file says that names it."""
    text = text_of(path)
    try:
        is_list = isinstance(yaml.read_document(str(path), text).value, list)
    except yaml.UnreadableError as error:
        raise LabFileError([str(error)]) from None
    if is_list:  # a lab file that names it finds what is wrong with it, with line and column
        text = json.dumps({"groups": [{"id": group or _id_of(path.stem), "template_files": [path.name]}]})
    return read_lab_file(path, environ, fetched, text)


def _id_of(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-")[:63] or "templates"


def _other(template: Template) -> str:
    return f"expected the kind {ACTIONS}, got {template.workload.kind}"
