"""Makes the machines that a lab starts itself, by the drivers of installed packages."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from importlib.metadata import entry_points
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError, DispatchError, MachineError
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.core.plain_text import what_was_raised
from pytest_dispatch.core.secrets import blotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_dispatch.lab.roster import RosterMachine
    from pytest_dispatch.machines.base import DrivenMachine, Factory, Spec

GROUP = "pytest_dispatch.machines"  # of entry points


def told_apart(machines: Iterable[DrivenMachine]) -> list[DrivenMachine]:
    """Return them, but those whose name another has with the next one: every SPEC of a scheme counts from 1."""
    taken: dict[str, DrivenMachine] = {}
    for machine in machines:
        name, number = machine.name, count(1)
        stem = name.rpartition("-")[0] or name
        while name in taken:
            name = f"{stem}-{next(number)}"
        taken[name] = replace(machine, name=name)
    return list(taken.values())


def make_machines(spec: Spec, state: Path) -> list[DrivenMachine]:
    """Make the machines of a SPEC, by whichever package offers its scheme.

    Raises:
        ConfigError: None does, or the SPEC has not what its driver needs.
        MachineError: Something that the driver needs is missing.
    """
    made = _by_driver(spec, state)
    return [
        replace(
            machine,
            name=machine.name or f"{spec.scheme}-{number}",
            labels={**machine.labels, **spec.labels},
            address=address,
            secrets=(*machine.secrets, *spec.secrets),
        )
        for number, (machine, address) in enumerate(zip(made, _addresses(spec, made), strict=True), start=1)
    ]


def make_machine(machine: RosterMachine, state: Path) -> DrivenMachine:
    """Make a machine of a lab file that has a driver.

    Raises:
        ConfigError: No package offers its driver, or the SPEC has not what that needs, or makes several machines.
        MachineError: Something that the driver needs is missing.
    """
    spec = machine.driver
    if spec is None:
        raise ConfigError(f"machine {machine.id}: expected a driver, got none")
    folder = Path(tempfile.mkdtemp(prefix=f"{machine.id}-", dir=state))
    given = [each.value for each in machine.identities if each.known_by is KnownBy.ADDRESS]
    made = _by_driver(spec, folder)
    if len(made) != 1:
        raise ConfigError(f"machine {machine.id}: expected the SPEC of one machine, got one of {len(made)}")
    if not spec.addresses and made[0].boot is None:
        spec = replace(spec, addresses=tuple(given[:1]))
    return replace(
        made[0],
        name=machine.id,
        labels={**made[0].labels, **spec.labels},
        address=_addresses(spec, made)[0],
        secrets=(*made[0].secrets, *spec.secrets),
    )


def mistake_in(spec: Spec) -> str:
    """Return what is wrong with a SPEC, whatever is missing on this computer; empty if nothing is.

    A driver starts nothing when it makes machines.
    """
    with tempfile.TemporaryDirectory(prefix="dispatch-check-") as state:
        try:
            _by_driver(spec, Path(state))
        except MachineError:
            return ""
        except ConfigError as error:
            return str(error).removeprefix(f"{spec.given}: ").removeprefix(f"{spec.option}: ")
    return ""


def _by_driver(spec: Spec, state: Path) -> Sequence[DrivenMachine]:
    found = {point.name: point for point in entry_points(group=GROUP)}
    if spec.scheme not in found:
        raise ConfigError(f"{spec.option}: expected one of {', '.join(sorted(found))}, got {spec.text!r}")
    factory: Factory = found[spec.scheme].load()
    try:
        return factory(spec, state)
    except Exception as error:
        said = str(error) if isinstance(error, DispatchError) else what_was_raised(error)
        if (told := blotted(said, spec.secrets)) == said:
            raise
        raise (ConfigError if isinstance(error, ConfigError) else MachineError)(told) from None


def _addresses(spec: Spec, machines: Sequence[DrivenMachine]) -> Sequence[str]:
    """Return the address of each machine; empty for those that are known by their boot URL.

    Raises:
        ConfigError: There are not as many as there are machines that need one.
    """
    without = [machine for machine in machines if machine.boot is None]
    if len(spec.addresses) != len(without):
        raise ConfigError(
            f"{spec.given}: expected address= with {len(without)} of its {len(machines)} machines'"
            f" addresses (those without boot control are known by them), got {len(spec.addresses)}"
        )
    given = iter(spec.addresses)
    return [next(given) if machine.boot is None else "" for machine in machines]
