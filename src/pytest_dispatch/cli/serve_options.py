"""`dispatch serve`: its options, and the lab's configuration made of them or of a file."""

from __future__ import annotations

import argparse
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_dispatch.cli.exit_codes import tell
from pytest_dispatch.cli.parser import Parser
from pytest_dispatch.core.errors import ConfigError, DispatchError
from pytest_dispatch.core.secrets import PUBLIC_API, without_passwords, without_userinfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_dispatch.lab_program.config import LabConfig
    from pytest_dispatch.lab_program.service_config import ServiceConfig
    from pytest_dispatch.machines.base import Spec


class _Option(NamedTuple):
    """An option that pytest has too, as `--dispatch-NAME`."""

    name: str
    metavar: str
    help: str
    default: Any = ""


API = "127.0.0.1:8081"  # where a service listens for pytest, programs and people

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
    _Option("db", "PATH", "the journal: a file, or the URL of a database (default: lab.db in the user's data)"),
    _Option("cache", "DIR", "where release assets are kept (default: the user's cache directory)"),
    _Option("cache-limit", "N", "gigabytes that kept release assets may take (default: %(default)s)", "20"),
    _Option("issues-repo", "OWNER/REPO", "file sessions' issues there with the lab's token; may be given again", []),
    _Option("api-url", "URL", "base of the GitHub API (default: GITHUB_API_URL, https://api.github.com)"),
)

#: Options that may stand beside `--config`.
_BESIDE_FILE = ("config", "token_file")

#: Number of new objects after which Python's garbage collector runs. Hardly any of a lab's objects are in reference
#: cycles, and with Python's default of 700 the collector takes a tenth of the time.
_YOUNG = 20_000


def serve(words: Sequence[str]) -> int:
    """Run a lab until a signal ends it."""
    given = _serve_parser().parse_args(words)
    if given.parent is not None:
        from pytest_dispatch.lab_program.child_process import serve_parent

        _keep_what_is_imported()
        serve_parent(given.parent, given.scratch)
    from pytest_dispatch.cli import serve as service_process
    from pytest_dispatch.lab_program.service_log import set_up_log

    _keep_what_is_imported()
    try:
        config, service = _from_file(given) if given.config else (_config(given), _service(given))
        set_up_log(os.environ, as_json=service.log_json, detailed=bool(given.config))
        token_file = _token_file(given, config.db)
        try:
            service_process.serve(config, service, token_file)
        except DispatchError as error:
            raise service.by_key(error) from error
    except DispatchError as error:
        code = tell(error)
        os._exit(code)  # end even if a driver's thread hangs
    return 0


def _keep_what_is_imported() -> None:
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    gc.enable()


def _serve_parser() -> Parser:
    parser = Parser(prog="dispatch serve", description="Run a lab until Ctrl-C or SIGTERM ends it.", allow_abbrev=False)
    fill(parser)
    return parser


def fill(parser: Parser) -> None:
    """Add the options of `dispatch serve` to a parser."""
    for option in OPTIONS:
        several = isinstance(option.default, list)
        parser.add_argument(
            f"--{option.name}",
            metavar=option.metavar,
            help=option.help,
            default=option.default,
            action="append" if several else "store",
        )
    parser.add_argument("--config", metavar="FILE", default="", help="all of this and more from a file: lab.yaml")
    parser.add_argument(
        "--api",
        metavar="HOST:PORT",
        default="",
        help=f"where pytest, programs and people come (default: {API}; a free port with --bind …:0)",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="let --api be beyond this computer: everybody there can read its token"
    )
    parser.add_argument(
        "--unknown-machines",
        choices=("approve", "welcome"),
        default="approve",
        help="machines that nobody has named: they wait for approval (the default), or are welcome",
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
        db=read_db(given.db),
        cache=read_file("--cache", given.cache) if given.cache else user_cache_path("pytest-dispatch") / "assets",
        cache_limit=values.read_gigabytes(given.cache_limit),
        private=False,
    )


def _service(given: argparse.Namespace) -> ServiceConfig:
    """Return what a service has without a file.

    Raises:
        ConfigError: Its API would be for everybody on the network.
    """
    import ipaddress

    from pytest_dispatch.lab_program import option_values as values
    from pytest_dispatch.lab_program.service_config import ServiceConfig
    from pytest_dispatch.server.auth.settings import AccessSettings

    _, boot_port = values.read_bind(given.bind)
    try:
        host, port = values.read_bind(given.api or (API if boot_port else "127.0.0.1:0"))
    except ConfigError as error:
        raise ConfigError(str(error).replace("--dispatch-bind", "--api")) from None
    is_here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    if not is_here and not given.insecure:
        raise ConfigError(
            f"--api: expected an address of this computer alone such as {API}, or --insecure, got {given.api!r};"
            " for a certificate, use --config"
        )
    return ServiceConfig(
        api_host=host,
        api_port=port,
        access=AccessSettings(insecure=given.insecure),
        issue_repositories=tuple(map(values.read_repo, given.issues_repo)),
        welcome=given.unknown_machines == "welcome",
    )


def _from_file(given: argparse.Namespace) -> tuple[LabConfig, ServiceConfig]:
    """Return the configuration in a file, which says all that options could.

    Raises:
        ConfigError: The file cannot be used, or there are options beside it.
    """
    usual = vars(_serve_parser().parse_args([]))
    beside = [name for name, value in vars(given).items() if value != usual[name] and name not in _BESIDE_FILE]
    if beside:
        option = beside[0].replace("_", "-")
        raise ConfigError(f"--config: expected no other option but --token-file, got --{option}; put it in the file")
    from pytest_dispatch.lab_program.lab_file.missing_packages import require_serve

    require_serve()
    from pytest_dispatch.lab_program.lab_file.lab_config import read_service

    return read_service(Path(given.config), os.environ)


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


def read_db(text: str) -> str:
    """Return where the journal is: the path of a file, or the URL of a database.

    Raises:
        ConfigError: The value is invalid, or contains a password that everybody on this computer could read.
    """
    from pytest_dispatch.lab_program.option_values import read_database
    from pytest_dispatch.lab_program.paths import default_journal

    if without_passwords(text) != text:
        raise ConfigError(
            "--db: expected no password on the command line, where everybody on this computer can read it; leave it"
            " out and set PGPASSWORD"
        )
    if "://" in text:
        return read_database(text)
    return str(read_file("--db", text) if text else default_journal())


def _token_file(given: argparse.Namespace, db: str) -> Path:
    if given.token_file:
        return read_file("--token-file", given.token_file)
    from pytest_dispatch.lab_program.paths import token_file

    return token_file(db)


def read_file(option: str, text: str) -> Path:
    """Return the place of a file that an option names.

    Raises:
        ConfigError: It is none.
    """
    from pytest_dispatch.lab_program.option_values import read_place

    return read_place(option, text, Path.cwd())
