"""`--dispatch-lab URL --dispatch-group GROUP`: the templates of a service's group are the items."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from actions_bench import REPO
from actions_sessions import LAB, prepare
from plugin_bench import WITHOUT, Bench, clean
from shared_labs import SharedLab

from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

SERVICE = """
server: {{boot: "{{boot}}", api: "{{api}}", announce: false}}
database: {{url: lab.db}}
sources: {{cache: assets}}
github:
  api_url: {url}
  tokens: {{"*": {token}}}
  polling: {{interval: 1s}}
"""


@pytest.fixture
def lab(tmp_path: Path, github: FakeGitHub) -> Iterator[SharedLab]:
    """A service with the groups of `LAB`, and one that has no templates."""
    prepare(github)
    said = SERVICE.format(url=github.url, token=github.token).replace("{{", "{").replace("}}", "}")
    groups = "groups:\n" + LAB.partition("groups:\n")[2] + "  - {id: bare}\n"
    (tmp_path / "lab").mkdir()
    with SharedLab(tmp_path / "lab", (), dict(os.environ), file=said + groups) as lab:
        yield lab


def shared(bench: Bench, lab: SharedLab, *args: str) -> pytest.RunResult:
    bench.path.joinpath("pytest.ini").write_text("[pytest]\n")
    environ = {**os.environ, "DISPATCH_TOKEN": lab.token, "GITHUB_TOKEN": "", "GH_TOKEN": ""}
    return clean(bench.fork(f"--dispatch-lab={lab.url}", *WITHOUT, *args, environ=environ))


def test_the_templates_of_a_group_are_run_in_it(bench: Bench, github: FakeGitHub, lab: SharedLab) -> None:
    result = shared(bench, lab, "--dispatch-group=boards", "-v")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["dispatch: boards; 2 actions; lab http://*", "boards::boot PASSED*"])
    result.stdout.fnmatch_lines(["job flash: failure in step Write the image on rpi-0?"])
    assert len(github.actions.runs(REPO)) == 2


def test_items_can_be_listed_and_selected(bench: Bench, github: FakeGitHub, lab: SharedLab) -> None:
    listed = shared(bench, lab, "--dispatch-group=boards", "--collect-only", "-q", "-m", "smoke")
    assert [line for line in listed.outlines if "::" in line] == ["boards::boot"]
    assert github.actions.runs(REPO) == []


def test_templates_of_a_file_are_run_in_a_group_of_the_lab(bench: Bench, github: FakeGitHub, lab: SharedLab) -> None:
    bench.path.joinpath("mine.yaml").write_text(
        "[{id: mine, kind: actions, payload: {owner: me, repo: lab, workflow: test.yml, correlation: ticket}}]"
    )
    result = shared(bench, lab, "--dispatch-actions=mine.yaml", "--dispatch-group=others", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["others::mine PASSED*"])
    assert len(github.actions.runs(REPO)) == 1


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("board", "*the lab has no group 'board': did you mean boards or bare?"),
        ("bare", "--dispatch-group: expected a group of the lab with templates, got 'bare', which has none"),
    ],
)
def test_a_group_that_has_nothing_to_run_is_refused(bench: Bench, lab: SharedLab, group: str, words: str) -> None:
    result = shared(bench, lab, f"--dispatch-group={group}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {words}"])
