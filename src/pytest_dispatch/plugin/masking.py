"""Keeps secret option values in a private place, and masks them wherever pytest and other plugins show options.

Loaded by every pytest, so this imports pytest alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import pytest

#: The options that may hold one, by the names of their values, and what to do so that nobody sees it.
SECRET = {
    "dispatch_token": ("--dispatch-token", "set GITHUB_TOKEN"),
    "dispatch_lab_token": ("--dispatch-lab-token", "set DISPATCH_TOKEN"),
    "dispatch_lab": ("--dispatch-lab", "leave the user out and set DISPATCH_TOKEN"),
    "dispatch_db": ("--dispatch-db", "leave the password out and set PGPASSWORD"),
    "dispatch_api_url": ("--dispatch-api-url", "leave the user out and set GITHUB_TOKEN"),
    "dispatch_notify": ("--dispatch-notify", "set DISPATCH_NOTIFY, or name a variable with it as ${VARIABLE}"),
    "dispatch_machine": ("--dispatch-machine", "have its driver read it from a file or the environment"),
}


#: The rest of a URL that names variables alone, and so holds no secret itself.
_NAMES_ALONE = re.compile(r"(?:\$\{\w+\}[/:@?&=]*)*")


class Secrets:
    """The secrets of a command line; registered as a plugin, by whose name they are found."""

    NAME = "dispatch-secrets"

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, str]] = {}  # by the secret: its option, and what is shown in its place

    @classmethod
    def of(cls, config: pytest.Config) -> Secrets:
        """Return those of this run."""
        return cast("Secrets", config.pluginmanager.get_plugin(cls.NAME))

    def keep(self, dest: str, value: str) -> str:
        """Return what may be shown of an option's value: all that `config.option` ever holds of it."""
        shown = _shown(dest, value)
        if shown != value:
            if dest == "dispatch_notify":  # several count
                others = {kept for each, (of, kept) in self._kept.items() if of == dest and each != value}
                while shown in others:
                    shown += "*"
            self._kept.pop(value, None)  # of an option that was given twice, the last value counts
            self._kept[value] = dest, shown
        return shown

    def reveal(self, dest: str, shown: str) -> str:
        """Return the value of which this is shown."""
        return next((value for value in reversed(self._kept) if self._kept[value] == (dest, shown)), shown)

    def hide(self, config: pytest.Config) -> None:
        """Mask what is shown of the command line, and warn of what other users of this computer see of it.

        Args:
            config: Before its options are parsed for good.

        Raises:
            pytest.UsageError: A secret is where it cannot be masked; or it is on the command line, and the user made
                warnings errors.
        """
        said = ((dest, each) for dest in SECRET for each in _each(config.getini(dest)))
        in_ini = {dest for dest, each in said if each and each != _shown(dest, each)}
        in_ini |= self._options_in(config.getini("addopts"))
        for option, instead in sorted(SECRET[dest] for dest in in_ini):
            raise pytest.UsageError(
                f"{option}: expected no secret in an ini file or behind -o, where plugins and tracebacks show it;"
                f" {instead} instead"
            )
        typed = config.invocation_params.args
        config.invocation_params = replace(config.invocation_params, args=tuple(map(self._masked, map(str, typed))))
        sys.argv[:] = map(self._masked, sys.argv)  # pytest-xdist hands it to its workers
        for dest in sorted(self._options_in(map(str, typed))):
            _warn_of_processes(config, *SECRET[dest])

    def _options_in(self, args: Iterable[str]) -> set[str]:
        return {self._kept[value][0] for arg in args for value in (arg, arg.partition("=")[2]) if value in self._kept}

    def _masked(self, arg: str) -> str:
        name, sign, value = ("", "", arg) if arg in self._kept else arg.partition("=")
        return f"{name}{sign}{self._kept[value][1]}" if value in self._kept else arg


def _shown(dest: str, value: str) -> str:
    from pytest_dispatch.core.secrets import HIDDEN, without_passwords, without_userinfo

    if dest in ("dispatch_token", "dispatch_lab_token"):
        return HIDDEN if value else ""
    if dest == "dispatch_notify":
        scheme, sign, rest = value.rpartition("://")
        return value if _NAMES_ALONE.fullmatch(rest) else f"{scheme}{sign}{HIDDEN}"
    if dest == "dispatch_db":
        return without_passwords(value)
    if dest == "dispatch_machine":
        return without_userinfo(value)
    return re.sub(r"(?<=://)[^/@\s]*(?=@)", HIDDEN, value)  # the user of an address at GitHub may be a token itself


def _each(said: str | list[str]) -> list[str]:
    """Return the values of an ini key that may have one or several."""
    return [said] if isinstance(said, str) else said


def _warn_of_processes(config: pytest.Config, option: str, instead: str) -> None:
    text = f"{option}: everybody on this computer can read it in the list of processes; {instead} instead"
    try:
        config.issue_config_time_warning(pytest.PytestConfigWarning(text), stacklevel=2)
    except pytest.PytestConfigWarning as error:
        raise pytest.UsageError(str(error)) from None
