"""Reads the user's settings once: the option, else the ini key, else the default."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.known_issues import IssueMode
from pytest_dispatch.core.media import expects
from pytest_dispatch.core.model import Idle, Outcome, Policy, Priority
from pytest_dispatch.core.secrets import PUBLIC_API, SecretUrl
from pytest_dispatch.github.api import is_repo
from pytest_dispatch.lab_program.option_values import read_api_url
from pytest_dispatch.plugin.options import ONLY_PRIVATE, SOURCES
from pytest_dispatch.plugin.own_lab_settings import of_templates, own_lab, without_booting
from pytest_dispatch.plugin.rack_settings import RackSettings, read_rack, refuse_without_rack
from pytest_dispatch.plugin.setting_values import Values, option_name
from pytest_dispatch.plugin.shared_lab_settings import SharedLabSettings, read_shared_lab
from pytest_dispatch.plugin.template_source import read_template_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_dispatch.core.secrets import Token
    from pytest_dispatch.lab_program.config import LabConfig
    from pytest_dispatch.lab_program.lab_file.templates import TemplateFile

CLOSE_AFTER = 3  # passes in a row

_WITH_ISSUES = ("dispatch_issues_repo", "dispatch_issues_text", "dispatch_issues_mode", "dispatch_issues_close_after")
_PRIORITIES = {each.name.lower(): each for each in Priority}
_ISSUES: dict[str, tuple[Outcome, ...]] = {
    "all": tuple(Outcome),
    "failed": (Outcome.FAILED,),
    "none": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The checked values of all options and ini keys.

    Attributes:
        folder_given: The folder as the user wrote it.
        folder_name: The folder relative to pytest's root directory, as in node ids; the same for every spelling. Of a
            file of templates, the file.
        templates: The templates of a file; None without one.
        rack: The rack whose machines are deployed; None without one.
        from_lab: Whether the workloads are the templates of a group of the lab.
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
    templates: TemplateFile | None
    rack: RackSettings | None
    from_lab: bool
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
    "queue": "dispatch_assign_timeout",
    "boot": "dispatch_boot_timeout",
    "report": "dispatch_report_timeout",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Workloads:
    """Where the workloads come from: a release, a folder, a file of templates, a rack, or a group of the lab.

    Attributes:
        told: The source for messages; empty if it is a release.
        path: The folder, or the file of templates.
        from_lab: Whether they are the templates of a group of the lab.
    """

    repo: str
    folder: str
    told: str
    path: Path | None
    templates: TemplateFile | None
    rack: RackSettings | None
    from_lab: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Issues:
    """Which outcomes become issues, and how."""

    outcomes: tuple[Outcome, ...]
    raw: bool
    mode: IssueMode


def read_settings(config: pytest.Config) -> Settings:
    """Read and check all settings.

    Raises:
        ConfigError: A value is invalid; names the option, what was expected and what came.
    """
    values = Values(config)
    source, shared, group = _source(values), read_shared_lab(values), values.text("dispatch_group")
    workloads = _workloads(values, source, group)
    issues = _issues(values, workloads)
    plan = own_lab(values, Values(config, without=ONLY_PRIVATE) if shared else values, shared=shared is not None)
    return Settings(
        repo=workloads.repo,
        tag=values.text("dispatch_tag"),
        folder=workloads.path if workloads.folder else None,
        folder_given=workloads.folder.rstrip("/") or workloads.folder,
        folder_name=os.path.relpath(workloads.path, config.rootpath) if workloads.path else "",
        templates=workloads.templates,
        rack=workloads.rack,
        from_lab=workloads.from_lab,
        issues=issues.outcomes,
        issues_raw=issues.raw,
        issues_mode=issues.mode,
        issues_close_after=values.number("dispatch_issues_close_after", CLOSE_AFTER),
        policy=_policy(values),
        group=group,
        priority=_PRIORITIES[values.choice("dispatch_priority", _PRIORITIES, "normal")],
        explain=values.flag("dispatch_explain"),
        drain=values.duration("dispatch_drain", "5m"),
        junit=values.path("dispatch_junit"),
        in_thread=values.text("dispatch_lab") == "thread",
        shared=shared,
        notify=tuple(_notify(values)),
        plan=_for_workloads(plan, workloads, issues, values, shared=shared is not None),
    )


def _workloads(values: Values, source: Mapping[str, str], group: str) -> _Workloads:
    """Return where the workloads come from; see `_source`."""
    repo = source.get("dispatch_repo", "")
    folder, file = (_path(values, name) if name in source else None for name in ("dispatch_dir", "dispatch_actions"))
    templates = read_template_file(file, group) if file is not None else None
    rack = read_rack(values, source["dispatch_rack"], os.environ) if "dispatch_rack" in source else None
    if rack is None:
        refuse_without_rack(values)
    return _Workloads(
        repo=repo,
        folder=source.get("dispatch_dir", ""),
        told="" if repo else _told(source),
        path=folder or file,
        templates=templates,
        rack=rack,
        from_lab=not source,
    )


def _issues(values: Values, workloads: _Workloads) -> _Issues:
    """Return which outcomes become issues; refuses options that have no effect with these workloads."""
    outcomes = _ISSUES[values.choice("dispatch_issues", _ISSUES, "all" if workloads.repo else "none")]
    raw = values.choice("dispatch_issues_text", ("safe", "raw"), "safe") == "raw"
    mode = IssueMode(values.choice("dispatch_issues_mode", list(IssueMode), IssueMode.EACH))
    _refuse_unused(values, workloads.told, mode)
    return _Issues(outcomes=outcomes, raw=raw, mode=mode)


def _for_workloads(
    plan: LabConfig, workloads: _Workloads, issues: _Issues, values: Values, *, shared: bool
) -> LabConfig:
    """Return what a lab is built from, with what these workloads and their issues need of GitHub and Testflinger."""
    templates, rack = workloads.templates, workloads.rack
    uses_github = bool(workloads.repo or issues.outcomes or (templates and not shared))
    surroundings = os.environ.get("GITHUB_API_URL", "") if uses_github or templates else ""
    api_url = read_api_url(values.text("dispatch_api_url", surroundings or PUBLIC_API))
    plan = replace(
        plan,
        token=_token(values, api_url) if uses_github else None,
        api_url=api_url,
        issues_repo=_issues_repo(values, workloads.repo) if issues.outcomes else "",
        testflinger=rack.server if rack is not None else None,
    )
    if rack is not None and not shared:
        return without_booting(plan, values)
    return of_templates(plan, templates, values) if templates and not shared else plan


def _source(values: Values) -> dict[str, str]:
    """Return the one source that is named, by the name of its option; an option overrides what the ini file names.

    It is empty if workloads are a lab's templates: those have no option of their own.
    """
    typed = {name: values.config.getoption(name) for name in SOURCES}
    named = typed if any(typed.values()) else {name: str(values.config.getini(name)) for name in SOURCES}
    given = {name: text for name, text in named.items() if text}
    if len(given) > 1:
        options, texts = " and ".join(map(option_name, given)), " and ".join(map(repr, given.values()))
        raise ConfigError(f"{options}: expected one source of workloads, got {texts}")
    if repo := given.get("dispatch_repo"):
        _repo("--dispatch-repo", repo)
    return given


def _told(source: Mapping[str, str]) -> str:
    """Return a source for messages that is no repository."""
    words = {"dispatch_dir": "the folder", "dispatch_actions": "the templates in", "dispatch_rack": "the rack"}
    return next((f"{words[name]} {text!r}" for name, text in source.items() if name in words), "a lab's templates")


def _path(values: Values, name: str) -> Path | None:
    """Return where the workloads are; the path must be UTF-8, because it is sent in JSON."""
    path = values.path(name)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{option_name(name)}: expected a path in UTF-8, got {str(path)!r}; rename it, or if it is one, set"
            " LC_ALL=C.UTF-8"
        ) from None
    return path


def _refuse_unused(values: Values, unreleased: str, issues_mode: IssueMode) -> None:
    """Refuse options on the command line that have no effect; ini keys may be meant for other runs.

    Args:
        values: All values.
        unreleased: The source for messages, if it is no repository with releases.
        issues_mode: How issues are filed.
    """
    if unreleased and values.typed("dispatch_tag"):
        raise ConfigError(
            f"--dispatch-tag: expected it with --dispatch-repo, got it with {unreleased}, which has no"
            " releases; leave one of them out"
        )
    if unreleased and not values.text("dispatch_issues"):
        for name in filter(values.typed, _WITH_ISSUES):
            raise ConfigError(
                f"{option_name(name)}: expected it with --dispatch-issues, got it alone, and only a release's"
                " workloads become issues by themselves; add --dispatch-issues failed or all, or leave it out"
            )
    if issues_mode is not IssueMode.UPDATE and values.typed("dispatch_issues_close_after"):
        raise ConfigError(
            "--dispatch-issues-close-after: expected it with --dispatch-issues-mode update, got it without, and what"
            " becomes an issue of its own is closed by nobody here; add the mode, or leave it out"
        )


def _issues_repo(values: Values, repo: str) -> str:
    given = values.text("dispatch_issues_repo", repo)
    if not given:
        raise ConfigError("--dispatch-issues: only a release has a repository; name one with --dispatch-issues-repo")
    return _repo("--dispatch-issues-repo", given)


def _repo(option: str, text: str) -> str:
    if not is_repo(text):
        raise ConfigError(f"{option}: expected OWNER/REPO such as AMDEPYC/dispatch, got {text!r}")
    return text


def _policy(values: Values) -> Policy:
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


def _token(values: Values, api_url: str) -> Token | None:
    from pytest_dispatch.github.token_lookup import find_token

    return find_token(values.text("dispatch_token") or None, os.environ, api_url)


def _notify(values: Values) -> Iterator[SecretUrl]:
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
