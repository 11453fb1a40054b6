"""`dispatch --owner … --repo … --tag … WORKLOAD`: the command line of the Rust program, by pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE

from pytest_dispatch.cli.main import main
from pytest_dispatch.cli.release import without_secrets
from pytest_dispatch.plugin.masking import SECRET
from pytest_dispatch.testing.github import FakeGitHub

COMMAND = (sys.executable, "-m", "pytest_dispatch.cli.main")


def dispatch(folder: Path, github: FakeGitHub, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "GITHUB_API_URL": github.url, "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        [*COMMAND, *words], cwd=folder, env=environ, capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )


@pytest.fixture
def folder(tmp_path: Path, github: FakeGitHub) -> Path:
    """A folder with tests of its own, which are not meant, and a release whose workloads pass and fail."""
    kind = "application/vnd.dispatch+efi"
    played = {f"workload-{number}": (kind, f"sim: {plays}\n".encode()) for number, plays in enumerate(("pass", "fail"))}
    github.add_release("me/lab", "example", played)
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    return tmp_path


SIM = ("--", "--dispatch-machine", "sim?pace=0.002", "-q", "-p", "no:cacheprovider", "--dispatch-issues", "none")


@pytest.mark.draw(1, of="release lines")
def test_a_workload_of_a_release_is_run_by_pytest(folder: Path, github: FakeGitHub) -> None:
    ran = dispatch(folder, github, "--owner", "me", "--repo", "lab", "--tag", "example", "workload-0", *SIM)
    said, *_ = ran.stdout.splitlines()
    line = (
        "dispatch: pytest me/lab@example --dispatch-repo me/lab --dispatch-tag example -k workload-0 --dispatch-machine"
    )
    assert said.startswith(line)
    assert "1 passed, 1 deselected" in ran.stdout
    assert ran.returncode == 0


@pytest.mark.draw(1, of="release lines")
def test_the_exit_code_is_pytest_s(folder: Path, github: FakeGitHub) -> None:
    ran = dispatch(folder, github, "-o", "me", "-r", "lab", "-t", "example", "workload-0", "workload-1", *SIM)
    assert "-k 'workload-0 or workload-1'" in ran.stdout
    assert ran.returncode == 1
    assert "test_own" not in ran.stdout


@pytest.mark.draw(1, of="release lines")
def test_the_line_that_is_shown_has_no_secret(folder: Path, github: FakeGitHub) -> None:
    secrets = ("--dispatch-token", "hush1", "--dispatch-lab-token=hush2", "--dispatch-notify", "json://hush3")
    ran = dispatch(folder, github, "-o", "me", "-r", "lab", "-t", "example", *SIM, *secrets, "--collect-only")
    shown = "--dispatch-token '***' '--dispatch-lab-token=***' --dispatch-notify '***' --collect-only"
    assert shown in ran.stdout.splitlines()[0]
    assert "hush" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--owner", "me"], "the following arguments are required: -r/--repo, -t/--tag"),
        (["-o", "me", "-r", "lab", "-t", "v1", "not"], "expected a workload's name, or a part of it, that pytest's -k"),
        (["-o", "me", "-r", "lab", "-t", "v1", "a b"], "expected a workload's name, or a part of it, that pytest's -k"),
        (["--oven"], "the following arguments are required"),
    ],
)
def test_what_is_wrong_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str], why: str) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"dispatch: {why}")
    assert said.count("\n") == 1


def test_all_options_that_are_secrets_are_known() -> None:
    for dest in SECRET:
        option = f"--{dest.replace('_', '-')}"
        for words in ([option, "odd://me:hush@there"], [f"{option}=odd://me:hush@there"]):
            assert "hush" not in "".join(without_secrets(words))
    assert list(without_secrets(["-k", "a or b", "--dispatch-tag", "v1"])) == ["-k", "a or b", "--dispatch-tag", "v1"]
