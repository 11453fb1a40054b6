"""Checks of the cycles of a lab file, each by itself: whatever would keep a round from starting is said here."""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from pytest_dispatch.core.cycle_plan import CyclePlan, Parameter, Schedule
from pytest_dispatch.core.errors import ConfigError, CycleError

if TYPE_CHECKING:
    from pytest_dispatch.lab_program.lab_file.document import Document, Path, Problem
    from pytest_dispatch.lab_program.lab_file.sections import CycleSection, LabFile, ParameterSection

END_OF_OPTIONS = "--"  # behind it, pytest takes the lab's own options for names of files


def cycle_problems(document: Document, content: LabFile) -> Iterator[Problem]:
    """Yield what of cycles cannot be used, although each value is right by itself."""
    for number, section in enumerate(content.cycles):
        place: Path = ("cycles", number)
        parameters = [parameter_of(name, each) for name, each in section.parameters.items()]
        yield from _defaults(document, place, parameters)
        yield from _arguments(document, place, section, parameters)
        yield from _who_and_what_runs(document, place, section)


def parameter_of(name: str, section: ParameterSection) -> Parameter:
    """Return a parameter; its default is the first of its choices, or nothing, if the file says none."""
    default = section.default if section.default is not None else (section.choices or [""])[0]
    return Parameter(name=name, choices=tuple(section.choices), pattern=section.pattern or "", default=default)


def _defaults(document: Document, place: Path, parameters: Sequence[Parameter]) -> Iterator[Problem]:
    for parameter in parameters:
        here = (*place, "parameters", parameter.name, "default")
        try:
            parameter.check(parameter.default)
        except CycleError as error:
            yield document.problem(here, str(error).removeprefix(f"{parameter.name}: "))
        for index, choice in enumerate(parameter.choices):
            if choice == END_OF_OPTIONS:
                what = f"expected anything but {END_OF_OPTIONS}, which ends the options of pytest, got it"
                yield document.problem((*place, "parameters", parameter.name, "choices", index), what)


def _arguments(
    document: Document, place: Path, section: CycleSection, parameters: Sequence[Parameter]
) -> Iterator[Problem]:
    """Refuse arguments with names that are not declared, or that hide the options that the lab adds."""
    values = {parameter.name: parameter.default for parameter in parameters}
    free = tuple(Parameter(name=each.name, choices=("",)) for each in parameters)  # their values are checked above
    for index, argument in enumerate(section.arguments):
        here = (*place, "arguments", index)
        try:
            plan = CyclePlan(name="", folder="", schedule=Schedule(), arguments=(argument,), parameters=free)
        except ConfigError as error:
            yield document.problem(here, str(error).removeprefix("arguments: "))
            continue
        if plan.command(values) == (END_OF_OPTIONS,):
            what = f"expected an argument other than {END_OF_OPTIONS}, behind which the lab's own options do not count"
            yield document.problem(here, f"{what}, got {document.got(here)}")


def _who_and_what_runs(document: Document, place: Path, section: CycleSection) -> Iterator[Problem]:
    """Refuse a user that this computer does not have, and an interpreter that cannot be executed."""
    if section.user is not None and not _is_user(section.user):
        here = (*place, "user")
        yield document.problem(here, f"expected a user of this computer, got {document.got(here)}")
    if section.python is not None and not _can_run(section.python, FilePath(document.name).parent / section.folder):
        here = (*place, "python")
        what = "expected a file that can be executed, such as /srv/tests/venv/bin/python"
        yield document.problem(here, f"{what}, got {document.got(here)}")


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _can_run(program: str, folder: FilePath) -> bool:
    """Return whether a program is there: a name is looked for in PATH, a path from the folder of the cycle on."""
    return shutil.which(str(folder / program) if "/" in program else program) is not None
