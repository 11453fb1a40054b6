"""Issues of sessions of a shared lab: filed by the lab, else by pytest with its own token, else kept."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from plugin_bench import WITHOUT, Bench, clean
from shared_labs import SharedLab

from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeGitHub]:
    with FakeGitHub() as fake:
        yield fake


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, hub: FakeGitHub) -> Iterator[SharedLab]:
    """One that files issues for `lab/own` alone."""
    words = ("--machine=sim:2?pace=0.001", f"--api-url={hub.url}", "--issues-repo=lab/own")
    environ = {**os.environ, "GH_ENTERPRISE_TOKEN": hub.token}
    with SharedLab(tmp_path_factory.mktemp("lab"), words, environ) as lab:
        yield lab


def spawn(bench: Bench, lab: SharedLab, hub: FakeGitHub, repo: str, *, token: bool) -> pytest.RunResult:
    where = (f"--dispatch-lab={lab.url}", f"--dispatch-api-url={hub.url}", f"--dispatch-issues-repo={repo}")
    environ = {**os.environ, "DISPATCH_TOKEN": lab.token}
    environ |= {"GH_ENTERPRISE_TOKEN": hub.token} if token else {}
    return clean(bench.fork("--dispatch-dir=w", "--dispatch-issues=all", *where, *WITHOUT, environ=environ))


def titles(hub: FakeGitHub, repo: str) -> list[str]:
    return sorted(issue.title for issue in hub.issues(repo))


def test_the_lab_files_where_its_configuration_says_so(bench: Bench, lab: SharedLab, hub: FakeGitHub) -> None:
    hub.add_repo("lab/own")
    bench.workloads({"a": "pass", "b": "fail"})
    result = spawn(bench, lab, hub, "lab/own", token=False)
    result.stdout.fnmatch_lines([f"issue: a.efi: {hub.url.rpartition('/api')[0]}*"])
    assert titles(hub, "lab/own") == ["a.efi", "b.efi"]
    assert "unfiled" not in result.stdout.str()


def test_what_nobody_can_file_is_kept_for_the_next_session_with_a_token(
    bench: Bench, lab: SharedLab, hub: FakeGitHub
) -> None:
    hub.add_repo("me/mine")
    bench.workloads({"a": "pass", "b": "fail"})
    result = spawn(bench, lab, hub, "me/mine", token=False)
    line = "unfiled: no token of the lab for me/mine: ?.efi, ?.efi; the next session with access files them"
    result.stdout.fnmatch_lines([line])
    assert titles(hub, "me/mine") == []
    bench.workloads({"c": "pass"})
    result = spawn(bench, lab, hub, "me/mine", token=True)
    assert "filed:" not in result.stdout.str()
    result.stdout.fnmatch_lines(["issue: c.efi: *"])
    assert titles(hub, "me/mine") == ["a.efi", "b.efi", "c.efi"]
    spawn(bench, lab, hub, "me/mine", token=True)
    assert titles(hub, "me/mine") == ["a.efi", "b.efi", "c.efi", "c.efi"]


def test_what_github_refuses_is_told_and_filed_later(bench: Bench, lab: SharedLab, hub: FakeGitHub) -> None:
    hub.add_repo("me/sealed")
    hub.fail_next("POST /repos/me/sealed/issues", status=410, message="Issues has been disabled in this repository.")
    bench.workloads({"a": "pass"})
    result = spawn(bench, lab, hub, "me/sealed", token=True)
    result.stdout.fnmatch_lines(["not filed, kept for the next session: a.efi: *"])
    spawn(bench, lab, hub, "me/sealed", token=True)
    assert titles(hub, "me/sealed") == ["a.efi", "a.efi"]
