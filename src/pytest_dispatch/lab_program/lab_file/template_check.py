"""Checks templates by the kinds that are installed: what each kind would refuse when its workload is queued."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.secrets import PUBLIC_API
from pytest_dispatch.sources.locations import Locations
from pytest_dispatch.workloads.registry import known_kinds

if TYPE_CHECKING:
    from pytest_dispatch.core.kinds import Kinds
    from pytest_dispatch.lab_program.lab_file.sections import LabFile, TemplateSection


class TemplateCheck:
    """Checks the templates of a lab file.

    Args:
        content: The lab file.

    Attributes:
        unknown: Kinds that are not installed here, in the order in which templates named them.
    """

    def __init__(self, content: LabFile) -> None:
        folders = {name: f"/{name}" for name in content.sources.folders}  # where they are does not matter here
        apis = dict.fromkeys((content.github.api_url, PUBLIC_API))
        self._locations = Locations(folders=folders, apis=tuple(apis))
        self._kinds: Kinds | None = None
        self.unknown: dict[str, None] = {}

    def refusals(self, template: TemplateSection) -> Iterator[tuple[str, str]]:
        """Yield the key of a template that its kind refuses, and why."""
        if self._kinds is None:
            self._kinds = known_kinds().rules
        rules = self._kinds.get(template.kind)
        if rules is None:
            self.unknown[template.kind] = None
            return
        try:
            rules.check_template(workload_of(template), self._locations.check)
        except ConfigError as error:
            yield "payload", f"the kind {template.kind} refuses it: {error}"


def workload_of(template: TemplateSection) -> Workload:
    """Return the workload of a template."""
    return Workload(
        name=template.name or template.id,
        kind=template.kind,
        payload=template.payload,
        labels=tuple(template.labels),
        requires=read_requirements(template.requires, f"template {template.id}"),
        expect=template.expect,
        limits=template.limits,
    )
