"""Templates: workloads that a lab's configuration stores, and that people and cycles can queue."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.nearest import meant
from pytest_dispatch.core.table import Table


class NoTemplateError(ConfigError):
    """A group has no template with that id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A stored workload.

    Attributes:
        id: Its name in requests; unique in the lab.
        group: The id of the group that it belongs to, in which its runs are.
        workload: What is run; its group is that of the template.
        description: What it is for.
        requeue: How often each run of it is queued again once it is over, at most; 0 for not at all.
        source: The file or the URL in which it stands; empty for the lab's configuration itself.
    """

    id: str
    group: str
    workload: Workload
    description: str = ""
    requeue: int = 0
    source: str = ""


#: How the key of a run ends that was queued of a template: after what makes it unique, `@` and the template's id.
_OF_TEMPLATE = re.compile(r"(?:#[0-9a-f]{8}|^again \S+)@([A-Za-z0-9._-]+)", re.ASCII)


def key_of(unique: str, template: str) -> str:
    """Return the key of a run that a person queues.

    Args:
        unique: `#` and eight hex digits after any text, or `again` and the id of the run that it repeats.
        template: Id of the template that says what it runs; empty for none.
    """
    return f"{unique}@{template}" if template else unique


def template_of(key: str) -> str:
    """Return the id of the template of which a person queued a run, by the key of the run; empty for none."""
    match = _OF_TEMPLATE.fullmatch(key, max(0, key.rfind("#")))
    return match[1] if match is not None else ""


class TemplateTable(Table[Template]):
    """The templates of a lab by id, in the order of its configuration."""

    def __init__(self, templates: Iterable[Template] = ()) -> None:
        super().__init__()
        for template in templates:
            if template.id in self._rows:
                raise ConfigError(f"templates: expected each id once, got {template.id!r} twice")
            self._rows[template.id] = template

    def of(self, group: str) -> list[Template]:
        """Return the templates of a group."""
        return [template for template in self._rows.values() if template.group == group]

    def known(self, group: str, name: str) -> Template:
        """Return a template of a group.

        Raises:
            NoTemplateError: The group has none with that id; the message names the nearest one, or all.
        """
        found = self._rows.get(name)
        if found is not None and found.group == group:
            return found
        mine = [template.id for template in self.of(group)]
        raise NoTemplateError(f"group {group} has no template {name!r}: {meant(name, mine)}")
