"""Checks the workloads of a source and of the hook before they become items and chains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.media import BOOT, BootPayload, added
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.plain_text import LONGEST_NAME, is_name
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.sources.locations import FOLDER, api_of
from pytest_dispatch.workloads.actions.payload import ACTIONS
from pytest_dispatch.workloads.deployments.payload import DEPLOYMENT


def as_booted(workload: Workload, *, shared: bool) -> Workload:
    """Return a workload added by a hook, in the form of those listed by a source.

    Args:
        workload: The workload.
        shared: Whether the lab is one that others use too, which may have folders of its own.

    Raises:
        ConfigError: The workload is invalid.
    """
    requires = read_requirements(map(str, workload.requires), f"pytest_dispatch_workloads: {workload.name}: requires")
    workload = replace(workload, requires=requires)
    if workload.kind != BOOT:
        return workload
    if str(workload.payload.get("location")).startswith(FOLDER):
        return _in_folder_of_lab(workload, shared=shared)
    payload = BootPayload.read(workload)
    if not payload.location.startswith("/") and not api_of(payload.location):
        raise ConfigError(
            f"pytest_dispatch_workloads: {workload.name}: payload: location: expected an absolute path, or the API URL"
            " of a release asset such as https://api.github.com/repos/OWNER/REPO/releases/assets/ID, got"
            f" {_shown(payload.location)}"
        )
    return replace(workload, payload=payload.as_json())


def _in_folder_of_lab(workload: Workload, *, shared: bool) -> Workload:
    """Return a workload whose bytes are in a folder on the lab's computer; whether they are, the lab finds out.

    Raises:
        ConfigError: The payload is invalid, or the lab has no folders but those that it is started for.
    """
    where = f"pytest_dispatch_workloads: {workload.name}: payload"
    payload = BootPayload.checked(workload, where)
    if not shared:
        raise ConfigError(
            f"{where}: location: expected {FOLDER}NAME/FILE with --dispatch-lab URL alone, got"
            f" {_shown(payload.location)}; a lab of pytest's own reads the file at an absolute path"
        )
    return replace(workload, payload=payload.as_json())


def check_answers(workloads: Iterable[object], answers: Iterable[object]) -> None:
    """Refuse workloads of a source or a hook that cannot become items, and hook results that would have no effect.

    Raises:
        ConfigError: Names the workload, and what was expected.
    """
    for answer in answers:
        if answer is not workloads:
            raise ConfigError(
                f"pytest_dispatch_workloads: expected the list changed in place, got {type(answer).__name__} returned;"
                " write workloads[:] = …"
            )
    names, kinds = set(), {BOOT, ACTIONS, DEPLOYMENT, *added()}
    for workload in workloads:
        if not isinstance(workload, Workload):
            raise ConfigError(f"pytest_dispatch_workloads: expected pytest_dispatch.Workload, got {workload!r}")
        name = workload.name
        if not is_name(name):
            text = f"expected a workload's name of at most {LONGEST_NAME} characters, all printable"
            raise ConfigError(f"{text}, got {name[:LONGEST_NAME]!r}")
        if workload.kind not in kinds:
            raise ConfigError(f"{name}: expected one of the kinds {', '.join(sorted(kinds))}, got {workload.kind!r}")
        if name in names:
            raise ConfigError(f"expected the names of workloads to differ, {name!r} comes twice")
        names.add(name)


def check_chains(workloads: Sequence[Workload]) -> None:
    """Refuse invalid chains and prerequisites.

    Raises:
        ConfigError: Names the workload, what was expected, and what to do.
    """
    locations = {workload.name: place for place, workload in enumerate(workloads)}
    for workload in workloads:
        name, chain = workload.name, _chain_of(workload)
        after: object = workload.after
        if not isinstance(after, list | tuple) or not all(isinstance(each, str) for each in after):
            raise ConfigError(f"{name}: after: expected a list of names of workloads, got {_shown(after)}")
        if after and not chain:
            raise ConfigError(f"{name}: after: expected workloads of its own chain, but it is in none; give it a chain")
        for other in after:
            before = workloads[locations[other]] if other in locations else None
            if wrong := _not_before(workload, before, other, locations):
                raise ConfigError(f"{name}: after: expected a workload that chain {chain!r} lists before it, {wrong}")


def _chain_of(workload: Workload) -> str:
    chain: object = workload.chain
    if not isinstance(chain, str) or (chain and not is_name(chain)):
        text = f"expected a name of at most {LONGEST_NAME} characters, all printable"
        raise ConfigError(f"{workload.name}: chain: {text}, got {_shown(chain)}")
    return chain


def _shown(value: object) -> str:
    return repr(value)[:LONGEST_NAME]


def _not_before(workload: Workload, before: Workload | None, name: str, locations: dict[str, int]) -> str:
    """Return why `before`, named `name`, cannot be a prerequisite of the workload; empty if it can."""
    if before is None:
        return f"there is no {name!r}"
    if before.chain != workload.chain:
        return f"{name!r} is in {f'chain {before.chain!r}' if before.chain else 'no chain'}"
    if locations[name] >= locations[workload.name]:
        return f"{name!r} is {'itself' if before is workload else 'listed after it: move it up'}"
    return ""
