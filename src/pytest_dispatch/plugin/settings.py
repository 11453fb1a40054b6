"""Reads the user's settings once: the option, else the ini key, else the default."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from platformdirs import user_cache_path

from pytest_dispatch.client.lab_tokens import find_lab_token, read_lab_url
from pytest_dispatch.core.duration import parse_duration
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.known_issues import IssueMode
from pytest_dispatch.core.media import expects
from pytest_dispatch.core.model import Idle, Outcome, Policy, Priority
from pytest_dispatch.core.secrets import PUBLIC_API, SecretUrl
from pytest_dispatch.github.api import is_repo
from pytest_dispatch.lab_program.config import LabConfig
from pytest_dispatch.lab_program.option_values import (
    read_api_url,
    read_bind,
    read_boot_tool,
    read_database,
    read_gigabytes,
    read_network,
    read_number,
    read_path,
    read_place,
    read_spec,
)
from pytest_dispatch.plugin.command_line import is_typed
from pytest_dispatch.plugin.masking import Secrets
from pytest_dispatch.plugin.options import ONLY_PRIVATE

if TYPE_CHECKING:
    from pytest_dispatch.core.secrets import Token

MOST_TRIES = 1000
CLOSE_AFTER = 3  # passes in a row

_LABS = ("process", "thread")
_WITH_ISSUES = ("dispatch_issues_repo", "dispatch_issues_text", "dispatch_issues_mode", "dispatch_issues_close_after")
_PRIORITIES = {each.name.lower(): each for each in Priority}
_ISSUES: dict[str, tuple[Outcome, ...]] = {
    "all": tuple(Outcome),
    "failed": (Outcome.FAILED,),
    "none": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLabSettings:
    """A lab that pytest does not start.

    Attributes:
        url: Its address.
        token: For its API.
        unused: Ini keys that only a lab of pytest's own needs.
    """

    url: str
    token: Token
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The checked values of all options and ini keys.

    Attributes:
        folder_given: The folder as the user wrote it.
        folder_name: The folder relative to pytest's root directory, as in node ids; the same for every spelling.
        group: The group of workloads that name none; empty for the first that suits each.
        priority: The priority of workloads whose mark names none.
        explain: Whether to say of each workload that waits why it waits.
        drain: Longest wait for machines to power off at the end, in seconds.
        plan: The lab's configuration.
        in_thread: Whether the lab runs in a thread of pytest's process.
        shared: The lab that others use too; None if pytest starts one of its own.
        notify: Apprise URLs that are told when the session ends.
    """

    repo: str
    tag: str
    folder: Path | None
    folder_given: str
    folder_name: str
    issues: tuple[Outcome, ...]
    issues_raw: bool
    issues_mode: IssueMode
    issues_close_after: int
    policy: Policy
    group: str
    priority: Priority
    explain: bool
    drain: float
    junit: Path | None
    plan: LabConfig
    in_thread: bool
    shared: SharedLabSettings | None = None
    notify: tuple[SecretUrl, ...] = ()


#: Options that set time limits, by the names that kinds use; a kind has defaults of its own.
_LIMITS = {
    "assign": "dispatch_assign_timeout",
    "boot": "dispatch_boot_timeout",
    "report": "dispatch_report_timeout",
}


class _Values:
    """Looks up the value of a name: the option, else the ini key."""

    def __init__(self, config: pytest.Config, without: Iterable[str] = ()) -> None:
        self.config = config
        self._without = frozenset(without)

    def text(self, name: str, default: str = "") -> str:
        if _option(name) in self._without:
            return default
        given = Secrets.of(self.config).reveal(name, self.config.getoption(name))
        return str(given or self.config.getini(name) or default)

    def typed(self, name: str) -> bool:
        return bool(self.config.getoption(name)) and is_typed(self.config, _option(name))

    def lines(self, name: str) -> list[str]:
        if _option(name) in self._without:
            return []
        given = [Secrets.of(self.config).reveal(name, each) for each in self.config.getoption(name) or ()]
        return given or list(self.config.getini(name))

    def flag(self, name: str) -> bool:
        given = self.config.getoption(name)
        return bool(self.config.getini(name) if given is None else given)

    def path(self, name: str) -> Path | None:
        """Return a path; an option is relative to the working directory, an ini key to pytest's root directory."""
        if _option(name) in self._without:
            return None
        given = self.config.getoption(name)
        base = self.config.invocation_params.dir if given else self.config.rootpath
        text = given or self.config.getini(name)
        return read_place(_option(name), str(text), base) if text else None

    def duration(self, name: str, default: str) -> float:
        try:
            return parse_duration(self.text(name, default))
        except ConfigError as error:
            raise ConfigError(f"{_option(name)}: {error}") from None

    def deadline(self, name: str) -> float:
        seconds = self.duration(name, "")
        if not seconds:
            raise ConfigError(f"{_option(name)}: expected a duration longer than 0, got {self.text(name)!r}")
        return seconds

    def number(self, name: str, default: int) -> int:
        given = self.text(name, str(default))
        number = read_number(given)
        if number is None or number > MOST_TRIES:
            raise ConfigError(f"{_option(name)}: expected a number from 0 to {MOST_TRIES}, got {given!r}")
        return number

    def choice(self, name: str, choices: Iterable[str], default: str) -> str:
        given, choices = self.text(name, default), list(choices)
        if given not in choices:
            raise ConfigError(f"{_option(name)}: expected {', '.join(choices[:-1])} or {choices[-1]}, got {given!r}")
        return given


def read_settings(config: pytest.Config) -> Settings:
    """Read and check all settings.

    Raises:
        ConfigError: A value is invalid; names the option, what was expected and what came.
    """
    values = _Values(config)
    repo, folder = _source(values)
    path = _folder(values) if folder else None
    issues = _ISSUES[values.choice("dispatch_issues", _ISSUES, "all" if repo else "none")]
    issues_raw = values.choice("dispatch_issues_text", ("safe", "raw"), "safe") == "raw"
    issues_mode = IssueMode(values.choice("dispatch_issues_mode", list(IssueMode), IssueMode.EACH))
    _refuse_unused(values, folder, issues_mode)
    surroundings = os.environ.get("GITHUB_API_URL", "") if repo or issues else ""
    api_url = read_api_url(values.text("dispatch_api_url", surroundings or PUBLIC_API))
    shared = _shared_lab(values)
    private = _Values(config, without=ONLY_PRIVATE) if shared else values
    return Settings(
        repo=repo,
        tag=values.text("dispatch_tag"),
        folder=path,
        folder_given=folder.rstrip("/") or folder,
        folder_name=os.path.relpath(path, config.rootpath) if path else "",
        issues=issues,
        issues_raw=issues_raw,
        issues_mode=issues_mode,
        issues_close_after=values.number("dispatch_issues_close_after", CLOSE_AFTER),
        policy=_policy(values),
        group=values.text("dispatch_group"),
        priority=_PRIORITIES[values.choice("dispatch_priority", _PRIORITIES, "normal")],
        explain=values.flag("dispatch_explain"),
        drain=values.duration("dispatch_drain", "5m"),
        junit=values.path("dispatch_junit"),
        in_thread=values.text("dispatch_lab") == "thread",
        shared=shared,
        notify=tuple(_notify(values)),
        plan=_plan(values, private, api_url, repo=repo, with_issues=bool(issues), shared=shared is not None),
    )


def _plan(values: _Values, private: _Values, api_url: str, *, repo: str, with_issues: bool, shared: bool) -> LabConfig:
    """Return what a lab of pytest's own is built from, and what counts with another one too."""
    host, port = read_bind(private.text("dispatch_bind", "0.0.0.0:8080"))
    return LabConfig(
        token=_token(values, api_url) if repo or with_issues else None,
        api_url=api_url,
        issues_repo=_issues_repo(values, repo) if with_issues else "",
        host=host,
        port=port,
        path=read_path(private.text("dispatch_path", "/dispatch")),
        allow=tuple(read_network(text) for text in private.lines("dispatch_allow")),
        boot_tools=frozenset(read_boot_tool(text) for text in private.lines("dispatch_boot_tool")),
        announce=not (shared or values.flag("dispatch_no_mdns")),
        machines=tuple(read_spec(text) for text in private.lines("dispatch_machine")),
        resume=values.flag("dispatch_resume"),
        db="" if shared else _db(values),
        cache=private.path("dispatch_cache") or user_cache_path("pytest-dispatch") / "assets",
        cache_limit=read_gigabytes(str(values.config.getini("dispatch_cache_limit") or "20")),
    )


def _shared_lab(values: _Values) -> SharedLabSettings | None:
    """Return the lab that `--dispatch-lab` names by its URL; None if it names none.

    What the command line says is meant for this run, so an option that would have no effect is refused. What an ini
    file says may be meant for runs with a lab of their own, so it is left out, and the header says so.
    """
    given = values.text("dispatch_lab")
    if "://" not in given:
        if given and given not in _LABS:
            expected = f"{', '.join(_LABS)} or a lab's address such as https://lab.example:8080"
            raise ConfigError(f"--dispatch-lab: expected {expected}, got {given!r}")
        if values.typed("dispatch_lab_token"):
            raise ConfigError(
                "--dispatch-lab-token: expected it with --dispatch-lab URL, got it with a lab of pytest's own; leave it"
                " out, or name the lab"
            )
        return None
    try:
        url = read_lab_url(given)
    except ConfigError as error:
        raise ConfigError(f"--dispatch-lab: {error}") from None
    names = [option.removeprefix("--").replace("-", "_") for option in ONLY_PRIVATE]
    for name in filter(values.typed, names):
        raise ConfigError(
            f"{_option(name)}: expected it with a lab of pytest's own, got it with --dispatch-lab {url}, whose"
            " configuration says that; leave it out, or start a lab of your own with --dispatch-lab process"
        )
    token = find_lab_token(url, values.text("dispatch_lab_token"), os.environ)
    unused = [name for name in names if values.config.getoption(name) or values.config.getini(name)]
    return SharedLabSettings(url=url, token=token, unused=tuple(unused))


def _source(values: _Values) -> tuple[str, str]:
    """Return the repository and the folder, one of them empty; an option overrides what the ini file names."""
    names = ("dispatch_repo", "dispatch_dir")
    options = [values.config.getoption(name) or "" for name in names]
    repo, folder = options if any(options) else [str(values.config.getini(name)) for name in names]
    if repo and folder:
        raise ConfigError(
            f"--dispatch-repo and --dispatch-dir: expected one source of workloads, got {repo!r} and {folder!r}"
        )
    return _repo("--dispatch-repo", repo) if repo else "", folder


def _folder(values: _Values) -> Path | None:
    """Return the folder of workloads; its path must be UTF-8, because it is sent in JSON."""
    path = values.path("dispatch_dir")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"--dispatch-dir: expected a path in UTF-8, got {str(path)!r}; rename it, or if it is one, set"
            " LC_ALL=C.UTF-8"
        ) from None
    return path


def _refuse_unused(values: _Values, folder: str, issues_mode: IssueMode) -> None:
    """Refuse options on the command line that have no effect; ini keys may be meant for other runs."""
    if folder and values.typed("dispatch_tag"):
        raise ConfigError(
            f"--dispatch-tag: expected it with --dispatch-repo, got it with the folder {folder!r}, which has no"
            " releases; leave one of them out"
        )
    if folder and not values.text("dispatch_issues"):
        for name in filter(values.typed, _WITH_ISSUES):
            raise ConfigError(
                f"{_option(name)}: expected it with --dispatch-issues, got it alone, and none of a folder's workloads"
                " becomes an issue by itself; add --dispatch-issues failed or all, or leave it out"
            )
    if issues_mode is not IssueMode.UPDATE and values.typed("dispatch_issues_close_after"):
        raise ConfigError(
            "--dispatch-issues-close-after: expected it with --dispatch-issues-mode update, got it without, and what"
            " becomes an issue of its own is closed by nobody here; add the mode, or leave it out"
        )


def _issues_repo(values: _Values, repo: str) -> str:
    given = values.text("dispatch_issues_repo", repo)
    if not given:
        raise ConfigError("--dispatch-issues: a folder has no repository; name one with --dispatch-issues-repo")
    return _repo("--dispatch-issues-repo", given)


def _repo(option: str, text: str) -> str:
    if not is_repo(text):
        raise ConfigError(f"{option}: expected OWNER/REPO such as AMDEPYC/dispatch, got {text!r}")
    return text


def _policy(values: _Values) -> Policy:
    default = Policy()
    fail, skip = (values.config.getini(f"dispatch_{name}_labels") for name in ("fail", "skip"))
    return Policy(
        limits={name: values.deadline(given) for name, given in _LIMITS.items() if values.text(given)},
        expect=values.choice("dispatch_expect", expects(), "") if values.text("dispatch_expect") else "",
        retries=values.number("dispatch_retries", default.retries),
        retry_failures=values.number("dispatch_retry_failures", default.retry_failures),
        idle=Idle(values.choice("dispatch_idle", list(Idle), "wait")),
        fail_labels=tuple(label.lower() for label in fail or default.fail_labels),
        skip_labels=tuple(label.lower() for label in skip or default.skip_labels),
    )


def _token(values: _Values, api_url: str) -> Token | None:
    from pytest_dispatch.github.token_lookup import find_token

    return find_token(values.text("dispatch_token") or None, os.environ, api_url)


def _notify(values: _Values) -> Iterator[SecretUrl]:
    """Yield the URLs that are told of the session's end, with the variables in them replaced."""

    def value(name: re.Match[str]) -> str:
        found = os.environ.get(name[1], "")
        if not found:
            raise ConfigError(
                f"--dispatch-notify: expected the variable {name[1]} in the environment, got none; set it, or leave"
                " the option out"
            )
        return found

    for text in values.lines("dispatch_notify") or os.environ.get("DISPATCH_NOTIFY", "").split():
        yield SecretUrl(re.sub(r"\$\{(\w+)\}", value, text), "--dispatch-notify")


def _db(values: _Values) -> str:
    """Return where the journal is: the path of a file, or the URL of a database."""
    given, config = values.text("dispatch_db"), values.config
    if "://" in given:
        return read_database(given)
    if path := values.path("dispatch_db"):
        return str(path)
    cache = getattr(config, "cache", None)  # absent with -p no:cacheprovider
    if cache is None:
        own = hashlib.sha256(os.fsencode(config.rootpath)).hexdigest()[:16]
        return str(user_cache_path("pytest-dispatch") / "journals" / f"{own}.db")
    try:
        return str(cache.mkdir("dispatch") / "journal.db")
    except OSError as error:
        raise ConfigError(
            f"--dispatch-db: pytest's cache directory cannot be written ({error.strerror}: {error.filename});"
            " name a file for the journal"
        ) from None


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
