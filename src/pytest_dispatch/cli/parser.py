"""The parser of all commands."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, NoReturn

from pytest_dispatch.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_TERM = re.compile(r'-(?!n?[0-9])(\w+:|\w{3,}|")')  # of a search, such as -outcome:passed, -panic
_MARK = "\0"  # before such a term, which is no option; no command line can have one


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def parse_in_any_order(self, words: Sequence[str]) -> argparse.Namespace:
        """Return what is given to a command that has none below it, with options and words in any order.

        Raises:
            ConfigError: It is wrong.
        """
        if "--" in words:
            return self.parse_args(words)
        return self.parse_intermixed_args([f"{_MARK}{word}" if _TERM.match(word) else word for word in words])

    def error(self, message: str) -> NoReturn:
        """Refuse a command line.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(f"{message.replace(_MARK, '')}; see `{self.prog} --help`")


def unmarked(word: str) -> str:
    """Return a word of a search as it was given."""
    return word.removeprefix(_MARK)
