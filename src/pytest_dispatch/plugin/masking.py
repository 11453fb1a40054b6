"""Keeps secret option values in a private place, and masks them wherever pytest and other plugins show options."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pytest_dispatch.core.secrets import HIDDEN, without_passwords, without_userinfo

#: What the options in question said; nothing else of pytest's holds it.
GIVEN: pytest.StashKey[dict[str, str | list[str]]] = pytest.StashKey()

_USER = re.compile(r"(?<=://)[^/@\s]*(?=@)")  # the user part of a GitHub URL, which may itself be a token


@dataclass(frozen=True, slots=True)
class _Secret:
    """An option whose value may contain a secret.

    Attributes:
        option: The option's name on the command line.
        hide: Returns the part of the value that may be shown.
        instead: Advice on how to pass the secret safely, for messages.
    """

    option: str
    hide: Callable[[str], str]
    instead: str


_SECRETS = {
    "dispatch_token": _Secret("--dispatch-token", lambda token: HIDDEN if token else "", "set GITHUB_TOKEN"),
    "dispatch_db": _Secret("--dispatch-db", without_passwords, "leave the password out and set PGPASSWORD"),
    "dispatch_api_url": _Secret(
        "--dispatch-api-url", lambda url: _USER.sub(HIDDEN, url), "leave the user out and set GITHUB_TOKEN"
    ),
    "dispatch_machine": _Secret(
        "--dispatch-machine", without_userinfo, "have its driver read it from a file or the environment"
    ),
}
_BY_OPTION = {secret.option: secret for secret in _SECRETS.values()}


def hide_secrets(config: pytest.Config, args: list[str]) -> None:
    """Mask tokens and passwords wherever pytest and other plugins show the command line.

    Args:
        config: The configuration before its options are finally parsed.
        args: The arguments that will be parsed; changed in place.

    Raises:
        pytest.UsageError: A secret is where it cannot be masked; or it is on the command line, and the user turned
            warnings into errors.
    """
    refuse_in_ini(config)
    known = config.known_args_namespace
    given = config.stash[GIVEN] = {name: value for name in _SECRETS if (value := getattr(known, name))}
    for name, value in given.items():
        hide = _SECRETS[name].hide
        setattr(known, name, hide(value) if isinstance(value, str) else [hide(each) for each in value])
    args[:] = _masked(_expanded(args))
    shown = config.invocation_params.args
    config.invocation_params = replace(config.invocation_params, args=tuple(_masked(shown)))
    sys.argv[:] = _masked(sys.argv)  # pytest-xdist passes it to its workers
    for name, value in given.items():
        if any(_hides(_SECRETS[name], each) and each in "\0".join(shown) for each in _each(value)):
            _warn_of_processes(config, _SECRETS[name])


def refuse_in_ini(config: pytest.Config) -> None:
    """Refuse secrets in an ini file or behind `-o`: everybody can read them in the configuration.

    Raises:
        pytest.UsageError: There is such a secret.
    """
    addopts = config.getini("addopts")
    found = [secret for name, secret in _SECRETS.items() if any(_hides(secret, s) for s in _each(config.getini(name)))]
    found += [secret for arg, secret in _with_secrets(addopts) if secret is not None and _shown(arg, secret) != arg]
    found += [_SECRETS["dispatch_token"] for arg in addopts if "dispatch_token=" in arg]
    if found:
        raise pytest.UsageError(
            f"{found[0].option}: expected no secret in an ini file or behind -o, where plugins and tracebacks show it;"
            f" {found[0].instead} instead"
        )


def _each(value: str | list[str] | None) -> list[str]:
    """Return what an option says, in a list; some may be given several times."""
    return [value] if isinstance(value, str) else value or []


def _hides(secret: _Secret, value: str) -> bool:
    return bool(value) and secret.hide(value) != value


def _expanded(args: Iterable[str]) -> Iterator[str]:
    """Yield the arguments with those of `@FILE` in place, read as argparse reads them."""
    for arg in args:
        if arg.startswith("@"):
            text = Path(arg[1:]).read_text(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
            yield from _expanded(text.splitlines())
        else:
            yield arg


def _masked(args: Iterable[str]) -> list[str]:
    return [arg if secret is None else _shown(arg, secret) for arg, secret in _with_secrets(args)]


def _with_secrets(args: Iterable[str]) -> Iterator[tuple[str, _Secret | None]]:
    """Yield each argument with the secret option whose value it is or contains; None if there is none."""
    before = ""
    for arg in args:
        apart = None if arg.startswith("@") else _BY_OPTION.get(before)  # @FILE is not the value of an option
        yield arg, apart or (_BY_OPTION.get(arg.partition("=")[0]) if "=" in arg else None)
        before = arg


def _shown(arg: str, secret: _Secret) -> str:
    prefix = f"{secret.option}="
    return prefix + secret.hide(arg.removeprefix(prefix)) if arg.startswith(prefix) else secret.hide(arg)


def _warn_of_processes(config: pytest.Config, secret: _Secret) -> None:
    text = f"{secret.option}: everybody on this computer can read it in the list of processes; {secret.instead} instead"
    try:
        config.issue_config_time_warning(pytest.PytestConfigWarning(text), stacklevel=2)
    except pytest.PytestConfigWarning as error:
        raise pytest.UsageError(str(error)) from None
