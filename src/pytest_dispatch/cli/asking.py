"""Asks a lab for what a command wants, and shows the answer."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from pytest_dispatch.cli.command_table import build_parser
from pytest_dispatch.cli.exit_codes import Code, NoLabError
from pytest_dispatch.cli.lab_choice import LAB_VARIABLE, SERVED, choose_lab, choose_token, is_served
from pytest_dispatch.cli.leading_options import leading_options
from pytest_dispatch.cli.meant_options import last_word_in_place, with_meant_option
from pytest_dispatch.cli.output import follow, show, watch
from pytest_dispatch.client.connection import (
    TIMEOUT,
    MissingError,
    NoLabHereError,
    NotAllowedError,
    UnknownTokenError,
)
from pytest_dispatch.client.lab_tokens import WAYS
from pytest_dispatch.client.operator_client import OperatorClient
from pytest_dispatch.client.unreachable_lab import UnreachableError
from pytest_dispatch.core.errors import ConfigError, LabError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from pytest_dispatch.cli.command_table import Noun, Verb
    from pytest_dispatch.core.secrets import Token

DEADLINE = 10.0  # seconds for an answer, beyond the wait asked for: somebody looks at the terminal


def ask(noun: Noun, words: Sequence[str]) -> Code:
    """Run a command of a noun.

    Raises:
        DispatchError: It is wrong, the lab refuses, or there is none.
    """
    given = _parsed(noun, words)
    url = choose_lab(given.lab, os.environ)
    token = choose_token(url, given.token_file, os.environ)
    timeout = TIMEOUT if given.watch or given.follow else DEADLINE
    try:
        with closing(OperatorClient(url, token.reveal(), timeout)) as client:
            _run(client, given)
    except KeyboardInterrupt:
        if not (given.watch or given.follow):
            raise
    except ConfigError as error:
        raise ConfigError(with_option(str(error), given.verb)) from error
    except LabError as error:
        raise _told(error, url, token, given.verb) from error
    return Code.DONE


def _parsed(noun: Noun, words: Sequence[str]) -> Namespace:
    """Return what is given to a command of a noun.

    Raises:
        ConfigError: It is wrong; names what was probably meant.
    """
    parser = build_parser(noun)
    in_order = _in_order(words) if noun.verbs[0].name else list(words)
    verb = next((each for each in noun.verbs if each.name in ("", *in_order[:1])), None)
    if verb is None:
        return parser.parse_args(in_order)
    in_order = last_word_in_place(verb, in_order)
    try:
        return parser.parse_args(in_order) if verb.name else parser.parse_in_any_order(in_order)
    except ConfigError as error:
        raise ConfigError(with_meant_option(str(error), noun, verb)) from None


def _in_order(words: Sequence[str]) -> list[str]:
    """Return the words with options that stand before the verb behind it, and `help` as the option that it is."""
    first, rest = leading_options(words)
    if rest[:1] == ["help"]:
        return [*rest[1:], "--help"]
    return [*rest[:1], *first, *rest[1:]]


def _run(client: OperatorClient, given: Namespace) -> None:
    if given.watch:
        watch(given.verb.watch(client, given), as_json=given.json)
    elif given.follow:
        follow(given.verb.follow(client, given), as_json=given.json)
    else:
        show(given.verb.run(client, given), as_json=given.json)


def with_option(said: str, verb: Verb) -> str:
    """Return what is said of a field of the API with the name of the option that gives it, if one does."""
    field, colon, rest = said.partition(": ")
    for each in verb.arguments:
        option = each.names[-1]
        if option.startswith("--") and field == each.settings.get("dest", option[2:].replace("-", "_")):
            return f"{option}{colon}{rest}"
    return said


def _told(error: LabError, url: str, token: Token, verb: Verb) -> Exception:
    """Return the error with what to do about it."""
    if isinstance(error, NoLabHereError):
        return NoLabError(f"no lab answers at {url}, but something else does; name one with --lab or {LAB_VARIABLE}")
    if isinstance(error, UnreachableError):
        return NoLabError(f"{error}; start one with `dispatch serve`, or name another with --lab or {LAB_VARIABLE}")
    if isinstance(error, UnknownTokenError):
        ways = f"{WAYS} {url}{SERVED if is_served(token) else ''}"
        return NoLabError(f"not signed in at {url} with the token from {token.source}: {error}; {ways}")
    if isinstance(error, NotAllowedError):
        return LabError(f"not allowed: {error}")
    if isinstance(error, MissingError) and "expected a lab at" in str(error):
        from pytest_dispatch.client.wrong_address import boot_port_at

        return NoLabError(boot_port_at(url) or f"{error}; name one with --lab or {LAB_VARIABLE}")
    return LabError(with_option(str(error), verb))
