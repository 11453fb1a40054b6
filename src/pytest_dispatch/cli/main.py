"""The command `dispatch`: runs a lab for several pytest sessions, and maintains its journal."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pytest_dispatch.core.errors import ConfigError, DispatchError
from pytest_dispatch.core.secrets import PUBLIC_API, without_passwords, without_userinfo

if TYPE_CHECKING:
    from pytest_dispatch.lab_program.config import LabConfig
    from pytest_dispatch.machines.base import Spec


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


class _Option(NamedTuple):
    """An option that pytest has too, as `--dispatch-NAME`."""

    name: str
    metavar: str
    help: str
    default: Any = ""


#: Options of `dispatch serve`. An option whose default is a list may be given several times.
OPTIONS = (
    _Option(
        "bind",
        "HOST:PORT",
        "where machines boot from and report to; port 0 picks a free one (default: %(default)s)",
        "0.0.0.0:8080",
    ),
    _Option("path", "PATH", "path of the boot URL (default: %(default)s)", "/dispatch"),
    _Option("machine", "SPEC", "bring machines up ourselves: sim, sim:8, qemu:2, NAME://…; may be given again", []),
    _Option("allow", "CIDR", "only machines of this network may boot or report; may be given again", []),
    _Option("boot-tool", "TOOL", "machines boot with this HTTP tool: curl, wget; may be given again", []),
    _Option("db", "PATH", "the journal: a file, or the URL of a database (default: lab.db in the user's state)"),
    _Option("cache", "DIR", "where release assets are kept (default: the user's cache directory)"),
    _Option("cache-limit", "N", "gigabytes that kept release assets may take (default: %(default)s)", "20"),
    _Option("api-url", "URL", "base of the GitHub API (default: GITHUB_API_URL, https://api.github.com)"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 on success, 1 on an error, 2 for wrong usage.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        name, *rest = [_OTHER_NAMES.get(word, word) for word in words[:1]] + words[1:] or ["help"]
        if name not in COMMANDS:
            raise ConfigError(f"expected one of {', '.join(COMMANDS)}, got {name!r}; see `dispatch help`")
        return COMMANDS[name].run(rest)
    except DispatchError as error:
        return _refused(error)


def _keep_what_is_imported() -> None:
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    gc.enable()


def _refused(error: DispatchError) -> int:
    """Print an error with the names of this command's options, and return the exit code."""
    said = str(error).replace("--dispatch-", "--").replace("dispatch_cache_limit", "--cache-limit")
    print(f"dispatch: {said}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


# dispatch serve


#: Number of new objects after which Python's garbage collector runs. Hardly any of a lab's objects are in reference
#: cycles, and with Python's default of 700 the collector takes a tenth of the time.
_YOUNG = 20_000


def _serve(words: list[str]) -> int:
    given = _serve_parser().parse_args(words)
    if given.parent is not None:
        from pytest_dispatch.lab_program.child_process import serve_parent

        _keep_what_is_imported()
        serve_parent(given.parent, given.scratch)
    import logging

    from pytest_dispatch.cli.serve import serve

    _keep_what_is_imported()
    logging.basicConfig(format="dispatch: %(name)s: %(message)s")
    logging.captureWarnings(True)
    try:
        config = _config(given)
        serve(config, _token_file(given, config.db))
    except DispatchError as error:
        code = _refused(error)
        os._exit(code)  # end even if a driver's thread hangs
    return 0


def _serve_parser() -> _Parser:
    parser = _Parser(
        prog="dispatch serve", description="Run a lab until Ctrl-C or SIGTERM ends it.", allow_abbrev=False
    )
    for option in OPTIONS:
        several = isinstance(option.default, list)
        parser.add_argument(
            f"--{option.name}",
            metavar=option.metavar,
            help=option.help,
            default=option.default,
            action="append" if several else "store",
        )
    parser.add_argument("--no-mdns", action="store_true", help="do not announce the server on the local network")
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        default="",
        help="file for the API's token (default: the journal's path with .token)",
    )
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)  # for programs that start a lab: docs/protocol.md
    parser.add_argument("--scratch", default="", help=argparse.SUPPRESS)
    return parser


def _config(given: argparse.Namespace) -> LabConfig:
    from platformdirs import user_cache_path

    from pytest_dispatch.github.token_lookup import find_token
    from pytest_dispatch.lab_program import option_values as values
    from pytest_dispatch.lab_program.config import LabConfig

    host, port = values.read_bind(given.bind)
    api_url = values.read_api_url(given.api_url or os.environ.get("GITHUB_API_URL") or PUBLIC_API)
    return LabConfig(
        token=find_token(None, os.environ, api_url),
        api_url=api_url,
        host=host,
        port=port,
        path=values.read_path(given.path),
        allow=tuple(map(values.read_network, given.allow)),
        boot_tools=frozenset(map(values.read_boot_tool, given.boot_tool)),
        announce=not given.no_mdns,
        machines=tuple(map(_machine, given.machine)),
        db=_db(given.db),
        cache=_place("--cache", given.cache) if given.cache else user_cache_path("pytest-dispatch") / "assets",
        cache_limit=values.read_gigabytes(given.cache_limit),
        private=False,
    )


def _machine(text: str) -> Spec:
    """Read a machine's SPEC.

    Raises:
        ConfigError: It is none, or everybody on this computer can read a secret in it.
    """
    from pytest_dispatch.lab_program.option_values import read_spec

    if (shown := without_userinfo(text)) != text:
        raise ConfigError(
            f"--machine: expected no secret on the command line, where everybody on this computer can read it, got"
            f" {shown!r}; have its driver read it from a file or the environment"
        )
    return read_spec(text)


def _db(text: str) -> str:
    """Return where the journal is: the path of a file, or the URL of a database.

    Raises:
        ConfigError: The value is invalid, or contains a password that everybody on this computer could read.
    """
    from pytest_dispatch.lab_program.option_values import read_database

    if without_passwords(text) != text:
        raise ConfigError(
            "--db: expected no password on the command line, where everybody on this computer can read it; leave it"
            " out and set PGPASSWORD"
        )
    if "://" in text:
        return read_database(text)
    return str(_place("--db", text) if text else _state() / "lab.db")


def _token_file(given: argparse.Namespace, db: str) -> Path:
    if given.token_file:
        return _place("--token-file", given.token_file)
    return _state() / "token" if "://" in db else Path(f"{db}.token")


def _place(option: str, text: str) -> Path:
    from pytest_dispatch.lab_program.option_values import read_place

    return read_place(option, text, Path.cwd())


def _state() -> Path:
    from platformdirs import user_state_path

    return user_state_path("pytest-dispatch")


# dispatch migrate, dispatch backup, dispatch restore


def _migrate(words: list[str]) -> int:
    db = _db(_journal_parser("migrate").parse_args(words).db)
    from pytest_dispatch.store.migrate import migrate
    from pytest_dispatch.store.schema import VERSION

    found = migrate(db)
    now = f", now it is of version {VERSION}" if found != VERSION else ", which is current"
    print(f"dispatch: the journal {db} was of version {found}{now}")
    return 0


def _backup(words: list[str]) -> int:
    given = _journal_parser("backup", "the file to create").parse_args(words)
    from pytest_dispatch.store.backup import backup

    db, file = _db(given.db), _place("FILE", given.file)
    backup(db, file)
    print(f"dispatch: the journal {db} is copied to {file}")
    return 0


def _restore(words: list[str]) -> int:
    given = _journal_parser("restore", "a copy that `dispatch backup` made").parse_args(words)
    from pytest_dispatch.store.backup import restore

    db, file = _db(given.db), _place("FILE", given.file)
    kept = restore(db, file)
    print(f"dispatch: the journal {db} is again as in {file}" + (f"; what it was is kept as {kept}" if kept else ""))
    return 0


def _journal_parser(name: str, file: str = "") -> _Parser:
    parser = _Parser(prog=f"dispatch {name}", description=f"{COMMANDS[name].help.capitalize()}.", allow_abbrev=False)
    [journal] = [option for option in OPTIONS if option.name == "db"]
    parser.add_argument("--db", metavar=journal.metavar, help=journal.help, default="")
    if file:
        parser.add_argument("file", metavar="FILE", help=file)
    return parser


# dispatch help, dispatch --version


def _help(words: list[str]) -> int:
    if words and words[0] != "help":
        return main([*words[:1], "--help"])
    print("usage: dispatch COMMAND …\n")
    for name, command in COMMANDS.items():
        print(f"  {name:<12}{command.help}")
    print("\n`dispatch help COMMAND` shows help on a command.")
    return 0


def _version(_words: list[str]) -> int:
    from importlib.metadata import version

    print(f"pytest-dispatch {version('pytest-dispatch')}")
    return 0


class _Command(NamedTuple):
    help: str
    run: Callable[[list[str]], int]


COMMANDS = {
    "serve": _Command("run a lab until Ctrl-C or SIGTERM ends it", _serve),
    "migrate": _Command("upgrade a journal of an older version; a lab also does this when it opens one", _migrate),
    "backup": _Command("copy a journal that is a file, also while a lab writes it", _backup),
    "restore": _Command("replace a journal by a copy, and keep the old journal beside it", _restore),
    "help": _Command("show this list, or help on a command", _help),
    "--version": _Command("show the version", _version),
}
_OTHER_NAMES = {"-h": "help", "--help": "help", "-V": "--version"}


if __name__ == "__main__":
    sys.exit(main())
