"""What somebody probably meant by an option that a command does not have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_dispatch.core.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_dispatch.cli.command_table import Argument, Noun, Verb

_COMMON = ("--json", "--lab", "--token-file", "--help")
_UNKNOWN = re.compile(r"unrecognized arguments: (--[a-z][a-z-]*)")


def last_word_in_place(verb: Verb, words: Sequence[str]) -> list[str]:
    """Return the words of a command line with `--reason TEXT` in the place in which the command has REASON.

    So it is for whatever a command takes at its end, in any number of words.

    Args:
        verb: The command.
        words: What is given to it, from its name on if it has one.
    """
    last = _last_words(verb)
    option = f"--{last.names[0]}" if last is not None else ""
    if not option or "--" in words or any(option in each.names for each in verb.arguments):
        return list(words)
    spelt = [part for word in words for part in (word.split("=", 1) if word.startswith(f"{option}=") else [word])]
    if option not in spelt:
        return list(words)
    at, begun = spelt.index(option), spelt[bool(verb.name) :]
    before, value, after = spelt[:at], spelt[at + 1 : at + 2], spelt[at + 2 :]
    others = any(not each.names[0].startswith("-") for each in verb.arguments if each is not last)
    comes_first = others and begun[0].startswith("-")  # the words that have another place come behind it
    return [*before, *after, *value] if comes_first else [*before, *value, *after]


def with_meant_option(said: str, noun: Noun, verb: Verb) -> str:
    """Return what the parser says of a command line, with what was probably meant by an option that it does not know.

    Args:
        said: What the parser says.
        noun: What the command is about.
        verb: The command.
    """
    unknown = _UNKNOWN.match(said)
    if unknown is None:
        return said
    words = {f"--{each.names[0]}": _shown(each) for each in verb.arguments if not each.names[0].startswith("-")}
    last = _last_words(verb)
    options = [each.names[-1] for each in verb.arguments if each.names[-1].startswith("--")]
    options += [f"--{last.names[0]}"] if last is not None else []
    before, see, after = said.partition("; see ")
    if unknown[1] in words:
        usage = " ".join(filter(None, ("dispatch", noun.name, verb.name, *words.values())))
        return f"{before}: {words[unknown[1]]} has no option before it: `{usage}`{see}{after}"
    meant = did_you_mean(unknown[1], [*options, *_COMMON])
    return f"{before}: {meant} See {after}" if meant else said


def _last_words(verb: Verb) -> Argument | None:
    """Return what a command takes in any number of words."""
    return next((each for each in verb.arguments if each.settings.get("nargs") in ("+", "*")), None)


def _shown(word: Argument) -> str:
    return str(word.settings.get("metavar", word.names[0].upper()))
