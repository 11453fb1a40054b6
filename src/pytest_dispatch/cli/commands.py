"""The table of all commands, and where each of them is; a command's module is loaded when the command is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_dispatch.cli.parser import Parser


class Command(NamedTuple):
    """A command of `dispatch`.

    Attributes:
        help: What it does, in a few words.
        home: Where it is, as `MODULE:NAME` in this folder: a `Noun`, or a function that takes the words after the name.
        fills: Where the function is that adds the options of such a function to a parser; empty if it has none.
    """

    help: str
    home: str
    fills: str = ""

    def load(self) -> Any:
        """Return the noun or the function."""
        return _load(self.home)

    def fill(self, parser: Parser) -> None:
        """Add the options of a command that is no noun to a parser."""
        if self.fills:
            _load(self.fills)(parser)

    def run(self, words: Sequence[str]) -> int:
        """Run the command, and return its exit code."""
        command = self.load()
        if callable(command):
            return int(command(words))
        from pytest_dispatch.cli.asking import ask

        return ask(command, words)


def _load(home: str) -> Any:
    module, _, name = home.partition(":")
    return getattr(import_module(f"pytest_dispatch.cli.{module}"), name)


COMMANDS = {
    "status": Command("show the whole lab on one screen", "status:STATUS"),
    "queue": Command("show what waits, put it in another order, hold or cancel it", "queue:QUEUE"),
    "machines": Command("show the lab's machines, hold them, return them", "machines:MACHINES"),
    "groups": Command("show the groups of machines, pause them, resume them", "groups:GROUPS"),
    "runs": Command("show what is under way, and all that is known of a run", "runs:RUNS"),
    "history": Command("search the runs that have ended", "history:HISTORY"),
    "explain": Command("say why a run waits, and when it starts", "explain:EXPLAIN"),
    "templates": Command("show the stored workloads, and queue them", "templates:TEMPLATES"),
    "cycle": Command("show what runs again and again, start it, pause it, run it now", "cycles:CYCLES"),
    "users": Command("show, add, change and remove the users of a lab", "users:USERS"),
    "tokens": Command("show, create and revoke the tokens of a lab", "tokens:TOKENS"),
    "audit": Command("show who changed what", "audit:AUDIT"),
    "login": Command("keep the token for a lab, for pytest and these commands", "login:login"),
    "logout": Command("drop the token that is kept for a lab", "login:logout"),
    "serve": Command("run a lab until Ctrl-C or SIGTERM ends it", "serve_options:serve", "serve_options:fill"),
    "config": Command("check a lab's configuration file, make one, show its schema", "config:config", "config:fill"),
    "migrate": Command("upgrade a journal of an older version", "journal:migrate", "journal:fill"),
    "backup": Command("copy a journal that is a file, also while a lab writes it", "journal:backup", "journal:fill"),
    "restore": Command("replace a journal by a copy", "journal:restore", "journal:fill"),
    "completion": Command("have a shell complete commands and names", "completion:completion", "completion:fill"),
    "version": Command("show the version", "version:version"),
}
