"""Looks up the values of options and ini keys, each in the type that it is used in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from pytest_dispatch.core.duration import parse_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.lab_program.option_values import read_number, read_place
from pytest_dispatch.plugin.command_line import is_typed
from pytest_dispatch.plugin.masking import Secrets

MOST_TRIES = 1000


class Values:
    """Looks up the value of a name: the option, else the ini key.

    Args:
        config: Pytest's.
        without: Options that do not count.
    """

    def __init__(self, config: pytest.Config, without: Iterable[str] = ()) -> None:
        self.config = config
        self._without = frozenset(without)

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        if option_name(name) in self._without:
            return default
        given = Secrets.of(self.config).reveal(name, self.config.getoption(name))
        return str(given or self.config.getini(name) or default)

    def typed(self, name: str) -> bool:
        """Return whether the option is on the command line itself."""
        return bool(self.config.getoption(name)) and is_typed(self.config, option_name(name))

    def lines(self, name: str) -> list[str]:
        """Return the values of an option that may be given again."""
        if option_name(name) in self._without:
            return []
        given = [Secrets.of(self.config).reveal(name, each) for each in self.config.getoption(name) or ()]
        return given or list(self.config.getini(name))

    def flag(self, name: str) -> bool:
        """Return whether a switch is on."""
        given = self.config.getoption(name)
        return bool(self.config.getini(name) if given is None else given)

    def path(self, name: str) -> Path | None:
        """Return a path; an option is relative to the working directory, an ini key to pytest's root directory."""
        if option_name(name) in self._without:
            return None
        given = self.config.getoption(name)
        base = self.config.invocation_params.dir if given else self.config.rootpath
        text = given or self.config.getini(name)
        return read_place(option_name(name), str(text), base) if text else None

    def duration(self, name: str, default: str) -> float:
        """Return a duration in seconds.

        Raises:
            ConfigError: It is none.
        """
        try:
            return parse_duration(self.text(name, default))
        except ConfigError as error:
            raise ConfigError(f"{option_name(name)}: {error}") from None

    def deadline(self, name: str) -> float:
        """Return a duration in seconds that is longer than 0.

        Raises:
            ConfigError: It is none.
        """
        seconds = self.duration(name, "")
        if not seconds:
            raise ConfigError(f"{option_name(name)}: expected a duration longer than 0, got {self.text(name)!r}")
        return seconds

    def number(self, name: str, default: int) -> int:
        """Return a number of tries.

        Raises:
            ConfigError: It is none, or too large.
        """
        given = self.text(name, str(default))
        number = read_number(given)
        if number is None or number > MOST_TRIES:
            raise ConfigError(f"{option_name(name)}: expected a number from 0 to {MOST_TRIES}, got {given!r}")
        return number

    def choice(self, name: str, choices: Iterable[str], default: str) -> str:
        """Return one of several words.

        Raises:
            ConfigError: It is another one.
        """
        given, choices = self.text(name, default), list(choices)
        if given not in choices:
            raise ConfigError(
                f"{option_name(name)}: expected {', '.join(choices[:-1])} or {choices[-1]}, got {given!r}"
            )
        return given


def option_name(name: str) -> str:
    """Return an option by the name of its ini key."""
    return "--" + name.replace("_", "-")
