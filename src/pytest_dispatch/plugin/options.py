"""Options, ini keys and marks that the plugin adds to pytest.

Every pytest loads this module, so it imports only pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import pytest


class Option:
    """An option and its ini key.

    `kind` is the type of the ini key. `choices` are checked together with all other values and not by argparse, which
    would check options but not ini keys.
    """

    def __init__(self, name: str, metavar: str, text: str, kind: str = "string", choices: tuple[str, ...] = ()) -> None:
        self.name = name
        self.metavar = metavar
        self.help = text
        self.kind = kind
        self.choices = choices

    @property
    def dest(self) -> str:
        """Return the name of the ini key, and of the value in `config.option`."""
        return self.name.removeprefix("--").replace("-", "_")


OPTIONS = (
    Option("--dispatch-repo", "OWNER/REPO", "Run the workloads of this GitHub repository's release"),
    Option("--dispatch-tag", "TAG", "Tag of the release (default: the latest release)"),
    Option(
        "--dispatch-dir",
        "DIR",
        "Run the workloads of a folder instead: *.efi, *.iso, *.img, or what its dispatch.toml lists",
    ),
    Option(
        "--dispatch-actions",
        "FILE",
        "Run GitHub Actions workflows on self-hosted runners instead: the templates of a YAML file",
    ),
    Option(
        "--dispatch-rack",
        "RACK",
        "Deploy the machines that MAAS has under this tag and Testflinger has agents for instead",
    ),
    Option("--dispatch-maas-url", "URL", "Address of MAAS (default: MAAS_URL; its key is in MAAS_API_KEY)"),
    Option("--dispatch-testflinger-url", "URL", "Address of Testflinger (default: TESTFLINGER_SERVER)"),
    Option("--dispatch-rack-location", "PATTERN", "Only agents whose location is like this: 'TOR3*' (default: *)"),
    Option(
        "--dispatch-rack-job",
        "FILE",
        "The Testflinger job of each machine, in YAML; {machine} stands for its name (default: deploy noble, reserve"
        " for 120 seconds)",
    ),
    Option(
        "--dispatch-busy",
        "HOW",
        "What becomes of a machine whose agent does not wait for jobs: skip, or wait until it does (default: skip)",
        choices=("skip", "wait"),
    ),
    Option("--dispatch-streak-limit", "N", "Skip machines that failed more often than this in a row (default: 20)"),
    Option("--dispatch-first-look", "DURATION", "When a job is looked at after it was submitted (default: 5m)"),
    Option(
        "--dispatch-token",
        "TOKEN",
        "GitHub token (default: GITHUB_TOKEN, GH_TOKEN, gh auth token); better in the environment",
    ),
    Option(
        "--dispatch-api-url",
        "URL",
        "Base of the GitHub API (default: GITHUB_API_URL, https://api.github.com)",
    ),
    Option(
        "--dispatch-bind",
        "HOST:PORT",
        "Where machines boot from and report to; port 0 picks a free one (default: 0.0.0.0:8080)",
    ),
    Option("--dispatch-path", "PATH", "Path of the boot URL (default: /dispatch)"),
    Option(
        "--dispatch-machine",
        "SPEC",
        "Bring machines up ourselves: sim, sim:8, qemu:2, NAME://…; may be given again",
        "linelist",
    ),
    Option(
        "--dispatch-allow",
        "CIDR",
        "Only machines of this network may boot or report; may be given again (default: all, or with --dispatch-machine"
        " only those)",
        "linelist",
    ),
    Option(
        "--dispatch-boot-tool",
        "TOOL",
        "Machines boot with this HTTP tool: curl, wget; may be given again (default: none, requests of such tools get"
        " no workload)",
        "linelist",
    ),
    Option(
        "--dispatch-issues",
        "OUTCOMES",
        "Which outcomes become GitHub issues: all, failed or none (default: all with --dispatch-repo, none with"
        " --dispatch-dir)",
        choices=("all", "failed", "none"),
    ),
    Option("--dispatch-issues-repo", "OWNER/REPO", "Where issues are filed (default: --dispatch-repo)"),
    Option(
        "--dispatch-issues-mode",
        "MODE",
        "each, an issue for each report; or update, one issue for each failure of a workload, which later ones comment"
        " (default: each)",
        choices=("each", "update"),
    ),
    Option(
        "--dispatch-issues-close-after",
        "N",
        "With --dispatch-issues-mode update, close an issue after so many passes in a row; 0 never does (default: 3)",
    ),
    Option(
        "--dispatch-issues-text",
        "HOW",
        "How workloads' texts appear in issues: safe, without mentions; raw, unchanged (default: safe)",
        choices=("safe", "raw"),
    ),
    Option(
        "--dispatch-assign-timeout",
        "DURATION",
        "Longest time in which no machine takes or finishes a workload (default: 30m)",
    ),
    Option(
        "--dispatch-boot-timeout",
        "DURATION",
        "Longest time from the last byte to the boot beacon (default: 15m)",
    ),
    Option(
        "--dispatch-report-timeout",
        "DURATION",
        "Longest time from the boot beacon to the report (default: 1h)",
    ),
    Option(
        "--dispatch-expect",
        "WHAT",
        "What makes a workload complete: its report, its boot, or its machine's return (default: report)",
        choices=("report", "boot", "return"),
    ),
    Option(
        "--dispatch-group",
        "GROUP",
        "Group of the lab in which workloads run (default: the first that suits each); without another source, its"
        " templates are the workloads",
    ),
    Option(
        "--dispatch-priority",
        "PRIORITY",
        "Priority of workloads whose mark names none: urgent, high, normal, low or idle (default: normal)",
        choices=("urgent", "high", "normal", "low", "idle"),
    ),
    Option(
        "--dispatch-explain",
        "",
        "Say of each workload that waits for a machine why it waits, and again when that changes",
        "bool",
    ),
    Option("--dispatch-retries", "N", "Further attempts after a fault of the lab (default: 1)"),
    Option("--dispatch-retry-failures", "N", "Further attempts after a failure of the workload (default: 0)"),
    Option(
        "--dispatch-idle",
        "PROGRAM",
        "What a machine gets while no workload waits but attempts on other machines may be tried again: wait or"
        " poweroff (default: wait)",
        choices=("wait", "poweroff"),
    ),
    Option(
        "--dispatch-drain",
        "DURATION",
        "After the last item, how long to wait for machines to power off; 0 turns it off (default: 5m)",
    ),
    Option("--dispatch-resume", "", "Continue the interrupted session from its journal", "bool"),
    Option("--dispatch-db", "PATH", "The journal (default: dispatch/journal.db in pytest's cache directory)"),
    Option("--dispatch-cache", "DIR", "Where release assets are kept (default: the user's cache directory)"),
    Option("--dispatch-junit", "FILE", "Write a JUnit file with a test case for each sub-test"),
    Option(
        "--dispatch-lab",
        "WHERE",
        "Where the lab runs: in a separate process, in a thread of pytest, to debug a machine driver, or at the URL of"
        " a lab that others use too (default: process)",
        choices=("process", "thread"),
    ),
    Option(
        "--dispatch-lab-token",
        "TOKEN",
        "Token for the lab at the URL (default: DISPATCH_TOKEN, dispatch login); better in the environment",
    ),
    Option(
        "--dispatch-owner",
        "NAME",
        "Name by which the lab at the URL knows who resumes this session (default: user, computer and folder)",
    ),
    Option(
        "--dispatch-lease",
        "DURATION",
        "Keep the session in the lab at the URL so long without pytest, also after its end, so that its owner can"
        " resume it (default: it ends with pytest)",
    ),
    Option(
        "--dispatch-notify",
        "URL",
        "Tell this apprise URL (slack://…, mailtos://…) when the session ends; may be given again (default:"
        " DISPATCH_NOTIFY); better in the environment, named as ${VARIABLE}",
        "linelist",
    ),
    Option("--dispatch-no-mdns", "", "Do not announce the server on the local network", "bool"),
)

#: Names of the options of which one names the source of workloads.
SOURCES = ("dispatch_repo", "dispatch_dir", "dispatch_actions", "dispatch_rack")

#: Accepted without a source of workloads: an editor set up to debug a machine driver starts all tests with this option.
FOR_DEBUGGING = "--dispatch-lab"

#: Options that only a lab of pytest's own has.
ONLY_PRIVATE = (
    "--dispatch-machine",
    "--dispatch-bind",
    "--dispatch-path",
    "--dispatch-allow",
    "--dispatch-boot-tool",
    "--dispatch-no-mdns",
    "--dispatch-db",
    "--dispatch-cache",
)

#: Ini keys without an option.
INI = (
    ("dispatch_fail_labels", "Labels that make a report a failure (default: fail failed failure error)"),
    ("dispatch_skip_labels", "Labels that make a report a skip (default: skip skipped)"),
    ("dispatch_cache_limit", "Gigabytes that kept release assets may take (default: 20)"),
)

MARKS = (
    "dispatch(workload, expect=None, *, requires=(), group='', priority=''): run this workload (dispatch_workload).",
    "dispatch_efi: an item whose workload is an EFI program.",
    "dispatch_iso: an item whose workload is an ISO image.",
    "dispatch_img: an item whose workload is a disk image.",
    "dispatch_actions: an item whose workload is a workflow of GitHub Actions.",
    "dispatch_deployment: an item whose workload is the deployment of a machine.",
)


def add_options(parser: pytest.Parser, types: Mapping[str, Callable[[str], str]]) -> None:
    """Add options and ini keys; an option that is not given is None, so that its ini key is asked.

    Args:
        parser: Pytest's.
        types: What makes some of the options' values of what was typed, by the names of the values.
    """
    group = parser.getgroup("dispatch", "workloads on real machines")
    for option in OPTIONS:
        made = types.get(option.dest, str)
        if option.kind == "bool":
            group.addoption(option.name, action="store_true", default=None, help=option.help)
            parser.addini(option.dest, option.help, type="bool", default=False)
        elif option.kind == "linelist":
            group.addoption(option.name, action="append", metavar=option.metavar, help=option.help, type=made)
            parser.addini(option.dest, option.help, type="linelist", default=[])
        else:
            group.addoption(option.name, metavar=option.metavar, help=option.help, type=made)
            parser.addini(option.dest, option.help, type="string", default="")
    for name, text in INI:
        kind: Literal["args", "string"] = "args" if name.endswith("labels") else "string"
        parser.addini(name, text, type=kind, default=None)
