"""Whatever a user gets wrong is told in one line, with exit code 4, before anything starts."""

from __future__ import annotations

import os
import socket
import threading
import warnings
from pathlib import Path

import pytest
from fetching import EFI
from filelock import FileLock
from plugin_bench import HERE, IN_THREAD, SIMS, WITHOUT, Bench

from pytest_dispatch.plugin.options import FOR_DEBUGGING, SOURCES, Option
from pytest_dispatch.plugin.options import OPTIONS as OPTIONS_OF_OURS
from pytest_dispatch.testing.github import FakeGitHub

OPTIONS = {
    "two-sources": (
        ["--dispatch-repo=a/b"],
        "--dispatch-repo and --dispatch-dir: expected one source of workloads, got 'a/b' and 'w'",
    ),
    "bind-port-only": (["--dispatch-bind=8080"], "--dispatch-bind: expected ADDRESS:PORT such as 0.0.0.0:8080"),
    "bind-name": (["--dispatch-bind=lab.example:80"], "got 'lab.example:80'"),
    "bind-long-port": (["--dispatch-bind=0.0.0.0:" + "1" * 5000], "--dispatch-bind: expected ADDRESS:PORT such as"),
    "spec-long": (["--dispatch-machine=sim:" + "1" * 5000], "--dispatch-machine: expected a SPEC such as"),
    "retries-long": (["--dispatch-retries=" + "1" * 5000], "--dispatch-retries: expected a number from 0 to 1000"),
    "home-of-nobody": (
        ["--dispatch-db=~nobody-by-this-name/j.db"],
        "--dispatch-db: expected a path, got '~nobody-by-this-name/j.db', and that user has no home",
    ),
    "bind-high-port": (["--dispatch-bind=0.0.0.0:65536"], "got '0.0.0.0:65536'"),
    "path-relative": (["--dispatch-path=dispatch"], "--dispatch-path: expected a path such as /dispatch"),
    "path-of-the-api": (["--dispatch-path=/api/v1"], "outside /api/, got '/api/v1'"),
    "spec-none": (["--dispatch-machine=sim:0"], "--dispatch-machine: expected a SPEC such as sim, sim:8, qemu:2 or"),
    "spec-nowhere": (["--dispatch-machine=sim://"], "or NAME://HOST, got 'sim://'"),
    "spec-both": (["--dispatch-machine=sim:2://x"], "or NAME://HOST, got 'sim:2://x'"),
    "spec-secret": (["--dispatch-machine=Sim://me:pw@x"], "or NAME://HOST, got 'Sim://***@x'"),
    "spec-unknown": (
        ["--dispatch-machine=bmc://me:pw@x"],
        "expected one of maas, qemu, qemu-aarch64, sim, got 'bmc://***@x'",
    ),
    "spec-address": (["--dispatch-machine=sim?address=here"], "expected an address such as 192.168.1.31 behind"),
    "spec-addresses": (["--dispatch-machine=sim:2?address=::1"], "expected address= with 0 of its 2 machines"),
    "spec-word": (["--dispatch-machine=sim:many"], "got 'sim:many'"),
    "spec-scheme": (
        ["--dispatch-machine=vax"],
        "--dispatch-machine: expected one of maas, qemu, qemu-aarch64, sim, got 'vax'",
    ),
    "spec-option": (
        ["--dispatch-machine=sim?speed=2"],
        "sim?speed=2: unknown option 'speed'; sim knows pace, boot, from",
    ),
    "spec-value": (["--dispatch-machine=sim?pace=fast"], "behind pace=, got 'fast'"),
    "allow": (["--dispatch-allow=10.0.0.0/33"], "--dispatch-allow: expected a network such as 192.168.1.0/24"),
    "boot-tool": (
        ["--dispatch-boot-tool=Go-http-client"],
        "--dispatch-boot-tool: expected a tool such as curl, wget or python-requests, got 'Go-http-client'",
    ),
    "issues": (["--dispatch-issues=some"], "--dispatch-issues: expected all, failed or none, got 'some'"),
    "issues-where": (
        ["--dispatch-issues=all"],
        "only a release has a repository; name one with --dispatch-issues-repo",
    ),
    "issues-text": (["--dispatch-issues-text=nice"], "--dispatch-issues-text: expected safe or raw, got 'nice'"),
    "issues-repo": (
        ["--dispatch-issues=all", "--dispatch-issues-repo=lab"],
        "--dispatch-issues-repo: expected OWNER/REPO such as AMDEPYC/dispatch, got 'lab'",
    ),
    "expect": (["--dispatch-expect=luck"], "--dispatch-expect: expected report, boot or return, got 'luck'"),
    "idle": (["--dispatch-idle=sleep"], "--dispatch-idle: expected wait or poweroff, got 'sleep'"),
    "retries": (["--dispatch-retries=-1"], "--dispatch-retries: expected a number from 0 to 1000, got '-1'"),
    "retry-failures": (["--dispatch-retry-failures=x"], "--dispatch-retry-failures: expected a number from 0 to 1000"),
    "retries-without-end": (["--dispatch-retries=1001"], "got '1001'"),
    "drain": (["--dispatch-drain=soon"], "--dispatch-drain: expected a duration such as 30s, 5m or 1h, got 'soon'"),
    "assign-timeout": (["--dispatch-assign-timeout=5 min"], "--dispatch-assign-timeout: expected a duration"),
    "boot-timeout": (
        ["--dispatch-boot-timeout=0"],
        "--dispatch-boot-timeout: expected a duration longer than 0, got '0'",
    ),
    "report-timeout": (["--dispatch-report-timeout=1d"], "--dispatch-report-timeout: expected a duration"),
    "api-url": (["--dispatch-api-url=github.com"], "--dispatch-api-url: expected the URL of a GitHub API such as"),
    "cache-limit": (["-o", "dispatch_cache_limit=lots"], "dispatch_cache_limit: expected a number of gigabytes"),
    "db-folder": (["--dispatch-db=w"], "/w: cannot"),
    "db-nonsense": (["--dispatch-db=w/a.efi"], "use another file with --dispatch-db"),
    "db-below-a-file": (["--dispatch-db=w/a.efi/j.db"], "use another file with --dispatch-db"),
    "db-kind": (["--dispatch-db=vax://u:hush@h/x"], "--dispatch-db: expected a file, or a database's URL such as"),
    "db-url": (["--dispatch-db=postgresql://u:hush@h:port/x"], "got one that cannot be read"),
    "db-sqlite": (["--dispatch-db=sqlite:///kept.db"], "got a URL of SQLite: of a file, write the name alone"),
    "junit-folder": (["--dispatch-junit=w"], "/w (Is a directory); give another file"),
    "junit-below-a-file": (["--dispatch-junit=w/a.efi/j.xml"], "--dispatch-junit: cannot write "),
    "tag": (["--dispatch-tag", "v1"], "--dispatch-tag: expected it with --dispatch-repo, got it with the folder 'w'"),
    "issues-repo-alone": (["--dispatch-issues-repo=me/lab"], "--dispatch-issues-repo: expected it with --dispatch-is"),
    "issues-text-alone": (["--dispatch-issues-text=raw"], "--dispatch-issues-text: expected it with --dispatch-is"),
    "cache-file": (["--dispatch-cache=w/a.efi"], "/w/a.efi (it is a file); name another one"),
    "cache-below-a-file": (["--dispatch-cache=w/a.efi/c"], "--dispatch-cache: expected a folder that can be written"),
    "unknown-node-id": (["w::b.efi"], "not found: w::b.efi (it has: a.efi)"),
}


@pytest.mark.parametrize(("args", "expected"), OPTIONS.values(), ids=OPTIONS)
def test_an_option_that_cannot_be_used(bench: Bench, args: list[str], expected: str) -> None:
    bench.workloads({"a": "pass"})
    line = bench.refused("--dispatch-dir=w", SIMS, *HERE, *args)
    assert expected in line
    assert "hush" not in line
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dispatch")]


def test_an_ini_key_is_refused_like_its_option(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeini("[pytest]\ndispatch_dir = w\ndispatch_expect = luck\n")
    assert bench.refused() == "--dispatch-expect: expected report, boot or return, got 'luck'"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "w: no workload in this folder: expected *.efi, *.iso, *.img, or a dispatch.toml"),
        ({"a.txt": "x"}, "w: no workload in this folder"),
        ({"dispatch.toml": "[[workload]]\nname = 'a.efi'\n"}, "w/dispatch.toml: workload 1: file: expected a file"),
        ({"dispatch.toml": "[[workload]]\nsize = 1\n"}, "unknown key 'size'"),
    ],
)
def test_a_folder_that_cannot_be_used(bench: Bench, files: dict[str, str], expected: str) -> None:
    bench.path.joinpath("w").mkdir()
    for name, text in files.items():
        bench.path.joinpath("w", name).write_text(text)
    assert expected in bench.refused("--dispatch-dir=w", SIMS, *HERE)


def test_named_pipes_in_the_place_of_files(bench: Bench) -> None:
    """Nobody waits for whoever is to be at their other end."""
    bench.workloads({"a": "pass"})
    os.mkfifo(bench.path / "pipe")
    line = bench.refused("--dispatch-dir=w", SIMS, *HERE, "--dispatch-junit=pipe")
    assert line.endswith("/pipe (it is a named pipe); give another file")
    bench.path.joinpath("pipe").rename(bench.path / "w" / "dispatch.toml")
    line = bench.refused("--dispatch-dir=w", SIMS, *HERE)
    assert line == "w/dispatch.toml: expected a file, got a named pipe"


def test_a_folder_that_is_not_there_is_told(bench: Bench) -> None:
    told = f"there is nothing at {bench.path / 'w'}; name a folder that exists"
    assert bench.refused("--dispatch-dir=w") == f"--dispatch-dir: expected a folder with workloads, got 'w': {told}"


def test_a_folder_whose_name_is_not_in_utf_8(bench: Bench) -> None:
    folder = bench.path / os.fsdecode(b"d\xff")
    folder.mkdir()
    (folder / "a.efi").write_bytes(b"MZ")
    line = bench.refused(f"--dispatch-dir={folder.name}", SIMS, *HERE)
    assert line.startswith("--dispatch-dir: expected a path in UTF-8, got '")
    assert line.endswith("d\\udcff'; rename it, or if it is one, set LC_ALL=C.UTF-8")


def test_a_port_that_is_taken(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = bench.refused("--dispatch-dir=w", SIMS, "--dispatch-no-mdns", f"--dispatch-bind=127.0.0.1:{port}")
    assert line.startswith(f"cannot listen on 127.0.0.1:{port}: another program listens there; use another port")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dispatch")]


def test_a_journal_that_is_in_use(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    with FileLock(bench.path / "j.db.lock"):
        line = bench.refused("--dispatch-dir=w", SIMS, *HERE, "--dispatch-db=j.db")
    assert "j.db: another lab is using it" in line


def test_a_cache_directory_that_cannot_be_written(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    line = bench.refused("--dispatch-dir=w", SIMS, *HERE, "-o", "cache_dir=w/a.efi/no")
    assert line.startswith("--dispatch-db: pytest's cache directory cannot be written")


def test_qemu_that_is_not_installed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.workloads({"a": "pass"})
    monkeypatch.setenv("PATH", str(bench.path))
    line = bench.refused("--dispatch-dir=w", "--dispatch-machine=qemu", *HERE)
    assert "qemu-system-x86" in line
    assert "install" in line


# What is asked for in vain


@pytest.mark.parametrize(
    "option", [option for option in OPTIONS_OF_OURS if option.name != FOR_DEBUGGING], ids=lambda option: option.name
)
def test_an_option_without_a_source(bench: Bench, option: Option) -> None:
    bench.pytester.makepyfile(test_own="def test_own(): pass")
    empty = option.dest in SOURCES
    given = [option.name] if not option.metavar else [f"{option.name}="] if empty else [option.name, "0"]
    with warnings.catch_warnings(action="ignore"):
        line = bench.refused("test_own.py", *given)
    assert line == (
        f"{option.name}: expected a source of workloads for it, got none; add --dispatch-dir DIR,"
        " --dispatch-repo OWNER/REPO, --dispatch-actions FILE or --dispatch-rack RACK, or leave it out"
    )


def test_what_is_set_for_all_runs_may_be_without_use(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makepyfile(test_own="def test_own(): pass")
    bench.path.joinpath("args").write_text("--dispatch-retries=2\n")
    bench.pytester.makeini(
        "[pytest]\naddopts = --dispatch-machine=sim --dispatch-tag=v1 --dispatch-issues-text=raw\n"
        "dispatch_issues_repo = me/lab\n"
    )
    monkeypatch.setenv("PYTEST_ADDOPTS", "--dispatch-idle=poweroff --dispatch-no-mdns")
    bench.pytester.runpytest_inprocess("@args", IN_THREAD, *WITHOUT).assert_outcomes(passed=1)
    bench.run("w", "test_own.py").assert_outcomes(passed=2)


def test_no_issues_whatever_is_said_of_them(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.run("--dispatch-issues=none", "--dispatch-issues-repo=me/lab").assert_outcomes(passed=1)


# GitHub


def test_a_repository_that_is_none(bench: Bench) -> None:
    line = bench.refused("--dispatch-repo=lab")
    assert line == "--dispatch-repo: expected OWNER/REPO such as AMDEPYC/dispatch, got 'lab'"


def test_an_unknown_repository_is_told_with_how_to_give_a_token(bench: Bench, github: FakeGitHub) -> None:
    args = ["--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}"]
    line = bench.refused(*args)
    assert "there is no repository me/lab" in line
    assert "needs a token (--dispatch-token, GH_ENTERPRISE_TOKEN or `gh auth login --hostname 127.0.0.1`;" in line
    line = bench.refused(*args, f"--dispatch-token={github.token}")
    assert "the token from --dispatch-token may not read it" in line
    assert github.token not in line


def test_an_unknown_release_is_told(bench: Bench, github: FakeGitHub) -> None:
    github.add_repo("me/lab")
    args = ["--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}"]
    assert "me/lab has no release" in bench.refused(*args)
    assert bench.refused(*args, "--dispatch-tag=v9") == "me/lab has no release with the tag 'v9'"


def test_a_tag_that_terminals_act_on(bench: Bench, github: FakeGitHub) -> None:
    github.add_release("me/lab", "v\u202e1\x9b2J", {"a.efi": (EFI, b"MZ")})
    line = bench.refused("--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}")
    assert line.startswith(
        "me/lab: expected a release's tag of at most 255 characters, printable and without '::', got"
    )
    assert line.isprintable()


def test_token_that_is_not_accepted(bench: Bench, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    github.add_release("me/lab", "v1", {"a.efi": (EFI, b"MZ")})
    args = ["--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}"]
    assert "is the token from --dispatch-token expired" in bench.refused(*args, "--dispatch-token=stale")
    monkeypatch.setenv("GH_ENTERPRISE_TOKEN", "stale")
    assert "is the token from GH_ENTERPRISE_TOKEN expired" in bench.refused(*args)
    line = bench.refused(*args, "--dispatch-token=two words")
    assert line.startswith("the token from --dispatch-token is invalid")
    assert "words" not in line


def test_a_rate_limit_is_told_with_its_end(bench: Bench, github: FakeGitHub) -> None:
    github.add_release("me/lab", "v1", {"a.efi": (EFI, b"MZ")})
    github.limit_next(times=100)
    line = bench.refused("--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}")
    assert "rate limit" in line
    assert "until" in line


def test_release_without_workloads(bench: Bench, github: FakeGitHub) -> None:
    github.add_release("me/lab", "v1", {"a.zip": ("application/zip", b"PK"), "b.zip": ("application/zip", b"PK")})
    line = bench.refused("--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}")
    assert "me/lab@v1 has nothing to boot" in line
    assert line.endswith("it has application/zip (2)")


def test_a_refused_connection_is_told(bench: Bench) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen: nobody else can, either
        port = closed.getsockname()[1]
        line = bench.refused("--dispatch-repo=me/lab", f"--dispatch-api-url=http://127.0.0.1:{port}")
    assert "connection refused" in line


def test_a_name_that_no_item_can_have(bench: Bench, github: FakeGitHub) -> None:
    github.add_release("me/lab", "v1", {"a\x1b[2J.efi": (EFI, b"MZ")})
    line = bench.refused("--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}")
    assert "expected a workload's name of at most 255 characters, all printable" in line
    assert "\x1b" not in line


# Told without a lab


def test_node_ids_are_looked_at_before_anything_starts(bench: Bench, github: FakeGitHub) -> None:
    github.add_release("me/lab", "v1", {"a.efi": (EFI, b"MZ")})
    line = bench.refused("--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}", "me/lab@v1::z.efi")
    assert line == "not found: me/lab@v1::z.efi (it has: a.efi)"
    assert not github.downloads


def test_a_missing_driver_of_a_database(bench: Bench, tmp_path: Path) -> None:
    bench.workloads({"a": "pass"})
    line = bench.refused("--dispatch-dir=w", f"--dispatch-db=mysql+nothing://{os.getpid()}")
    assert "whose driver is not installed" in line or "got one whose driver" in line
