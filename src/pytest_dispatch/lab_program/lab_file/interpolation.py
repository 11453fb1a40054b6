"""Replaces `${VAR}` and `${VAR:-default}` in the texts of a lab file by the environment; `$$` is a dollar sign."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}|(?P<broken>\{))")


class VariableError(Exception):
    """A variable is not set, or what looks like one is none; the text says what was expected and what came."""


def interpolated(text: str, environ: Mapping[str, str]) -> str:
    """Return a text with its variables replaced.

    As in a shell, a default also stands for a variable that is set to nothing. What a variable holds is not looked at
    again, and can add no keys: the file has been parsed before.

    Raises:
        VariableError: A variable without a default is not set, or a `${` is not closed.
    """

    def value(match: re.Match[str]) -> str:
        if match["broken"]:
            raise VariableError("expected ${NAME} or ${NAME:-default}, or $${ for the signs themselves, got another ${")
        name, default = match["name"], match["default"]
        if name is None:
            return "$"
        found = environ.get(name, "")
        if default is not None:
            return found or default[2:]
        if name not in environ:
            raise VariableError(
                f"expected the variable {name} in the environment, got none; set it, or write ${{{name}:-default}}"
            )
        return found

    return _VARIABLE.sub(value, text)
