"""The examples in the documentation do what it says: files, a command, how its tests end, what it shows."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docs_examples import PAGES, ROOT, Example, blocks, examples
from plugin_bench import IN_THREAD, WITHOUT, plays
from workflow_files import workflow_of

# Loaded once, here: `pytester` makes each example forget what it imported.
import pytest_dispatch.plugin.session  # noqa: F401
from pytest_dispatch.testing.github import FakeGitHub

EXAMPLES = [example for page in PAGES for example in examples(page)]


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.where for example in EXAMPLES])
@pytest.mark.draw(3)
def test_an_example_does_what_the_page_says(
    example: Example, pytester: pytest.Pytester, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(example, pytester.path)
    for name, text in example.files.items():
        if name.startswith(".github/workflows/"):
            github.actions.add_workflow("my-org/firmware", workflow_of(text, Path(name).name))
    monkeypatch.setenv("GITHUB_API_URL", github.url)
    monkeypatch.setenv("GITHUB_TOKEN", github.token)
    for name in ("MAAS_URL", "MAAS_API_KEY", "TESTFLINGER_SERVER"):  # which an example may set
        monkeypatch.setenv(name, "")
    pytester.syspathinsert()
    if "pyproject.toml" in example.files:  # what is installed is looked up once in a process
        result = pytester.runpytest_subprocess(*arguments(example), *WITHOUT)
    else:
        result = pytester.runpytest_inprocess(*arguments(example), IN_THREAD, *WITHOUT)
    result.assert_outcomes(**example.outcomes)
    came = iter([comparable(line) for line in result.outlines])
    for line in example.output:
        assert any(comparable(line) == shown for shown in came), f"not shown, or not in this order: {line}"


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """A GitHub with the repositories and the runners that examples name."""
    with FakeGitHub() as fake:
        for repo in ("me/lab", "my-org/firmware"):
            fake.add_repo(repo)
        for name in ("rpi-01", "rpi-02"):
            fake.actions.add_runner("my-org", name, ("rpi",))
        programs = {
            f"workload-{number}.efi": ("application/vnd.dispatch+efi", b"MZ" * number) for number in range(1, 10)
        }
        fake.add_release("AMDEPYC/dispatch", "example", programs)
        yield fake


def set_up(example: Example, folder: Path) -> None:
    for name, text in example.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    if "pyproject.toml" in example.files:
        install(tomllib.loads(example.files["pyproject.toml"])["project"], folder)
    if not example.workloads:
        return
    (folder / "workloads").mkdir(exist_ok=True)
    for name, scenario in example.workloads.items():
        plays(folder / "workloads" / name, scenario)


def install(project: dict[str, Any], folder: Path) -> None:
    """What pip would leave behind: the entry points, for everything in this folder."""
    there = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    there.mkdir(exist_ok=True)
    (there / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [(group, points) for group, points in project["entry-points"].items()]
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()) for group, points in groups
    ]
    (there / "entry_points.txt").write_text("\n".join(lines))


def arguments(example: Example) -> list[str]:
    """The command's, on a free port, and with simulated machines in quicker motion."""
    program, *given = example.command
    assert program == "pytest"
    if not any(argument.startswith("--dispatch-") for argument in given):
        return given
    if not {"--dispatch-machine", "--dispatch-actions", "--dispatch-rack"} & {*given}:
        given.append("--dispatch-machine=sim?pace=0.01")  # in place of those on the reader's network
    quick = [re.sub(r"^(sim(:\d+)?)$", r"\1?pace=0.01", argument) for argument in given]
    return [*quick, "--dispatch-bind=127.0.0.1:0", "--dispatch-no-mdns"]


def comparable(line: str) -> str:
    """The line without what differs from run to run: numbers, digests, rules, indentation."""
    line = re.sub(r"sha256:[0-9a-f]+", "sha256:0", line).replace("?pace=0.01", "")
    line = re.sub(r"\d+(\.\d+)*", "0", line)
    return " ".join(re.sub(r"[=_]{2,}", "", line).split())


def test_no_python_is_shown_that_is_not_run() -> None:
    """As an example here, or as a part of the package that the tests of a made-up kind install."""
    package = [file.read_text("utf-8") for file in (ROOT / "tests/support/bakery").glob("*.py")]
    shown = [block for page in PAGES for block in blocks(page) if block.language == "python"]
    own = [block for block in shown if block.directive != "file"]
    assert [block.where for block in own if not any(block.text in text for text in package)] == []


def test_pages_have_examples() -> None:
    with_examples = {example.where.partition(":")[0] for example in EXAMPLES}
    expected = {"how-it-works", "hooks", "python-tests", "machines", "kinds", "testing", "actions"}
    assert {f"docs/{name}.md" for name in expected} <= with_examples
