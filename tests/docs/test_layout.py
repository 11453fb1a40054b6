"""The tree is what its descriptions say."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
from bakery.lifecycle import BAKE, RULES
from docs_examples import PACKAGE, ROOT

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.workloads.boot.lifecycle import State

TOP_LEVEL = {
    *("pyproject.toml", "Makefile", "conftest.py", "LICENSE", ".gitignore"),
    *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
    *("src", "tests", "examples", "benchmarks", "docs", ".github", ".ci"),
}
#: Split, so that this file does not hold them.
LEFT_OVERS = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")

#: What others have written is as they wrote it.
VENDORED = {PACKAGE / "server" / "web" / "static" / "vendor", ROOT / "tests" / "support" / "axe"}

LONGEST_NAME = 80
MOST_METHODS = 25
#: Classes that have more, and why.
LARGE_CLASSES = {
    "FakeGitHub": "a double of GitHub: a method for each thing that a test looks up in it, or has it do",
}


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """What is tracked, or will be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="module")
def texts(files: list[Path]) -> dict[str, str]:
    found = {}
    for path in files:
        data = path.read_bytes()
        if b"\0" not in data and path.stat().st_size < 1_000_000 and not VENDORED & set(path.parents):
            found[str(path.relative_to(ROOT))] = data.decode("utf-8")
    return found


def test_the_top_level_holds_nothing_that_can_live_deeper(files: list[Path]) -> None:
    assert {path.relative_to(ROOT).parts[0] for path in files} <= TOP_LEVEL


def test_nothing_is_left_undone_in_a_comment(texts: dict[str, str]) -> None:
    mark = re.compile(rf"\b({'|'.join(LEFT_OVERS)})\b")
    directive = "src/pytest_dispatch/results/"  # TAP has one of these words as a directive
    found = {
        f"{name}: {line.strip()}"
        for name, text in texts.items()
        if not name.startswith(("tests/", directive))
        for line in text.splitlines()
        if mark.search(line)
    }
    assert not found


def test_nothing_names_a_place_on_somebodys_computer(texts: dict[str, str]) -> None:
    place = re.compile(r"(?<![\w.)])/(?:home|Users|work)/\w+")
    assert {name: place.findall(text) for name, text in texts.items() if place.search(text)} == {}


def test_text_files_end_with_a_newline_and_have_no_blanks_at_line_ends(texts: dict[str, str]) -> None:
    untidy = {
        name for name, text in texts.items() if text and (not text.endswith("\n") or re.search(r"[ \t]+\n", text))
    }
    assert untidy - {"tests/github-openapi.json"} == set()


def test_the_architecture_is_the_linters() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    assert runpy.run_path(str(ROOT / "docs" / "generate.py"))["rendered"]("ARCHITECTURE.md") == page, "run `make docs`"


def test_the_architecture_names_every_module() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    held = (path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__")
    folders = {path.name for path in held if any(each.is_file() for each in path.rglob("*") if each.suffix != ".pyc")}
    assert {name for name in modules | folders if f"`{name}`" not in page} == set()


def test_the_files_that_the_architecture_names_exist() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = set(re.findall(r"`((?:\w+/)?\w+\.py)`", page))
    assert len(named) > 15
    assert {name for name in named if not (PACKAGE / name).exists()} == set()


@cache
def trees() -> dict[Path, ast.Module]:
    """The package's modules."""
    return {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


def test_only_the_boot_workloads_know_the_states_of_boot_workloads() -> None:
    """Kinds are told apart by what their lifecycles say of them; nobody else names a state of one.

    But what was written before there were kinds is all of boots, and is read as it was.
    """
    may = (PACKAGE / "workloads" / "boot", PACKAGE / "store" / "migrations")
    of_any_run = {*map(str, Outcome), "cancelled"}
    own = {str(state) for state in State} - of_any_run
    found = {
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.value}"
        for path, tree in trees().items()
        if not any(path.is_relative_to(folder) for folder in may)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in own
    }
    assert found == set()


def test_no_class_has_so_many_methods_that_nobody_sees_what_it_is_for() -> None:
    """Those count too that a class has from others of the package: to inherit them is no way to have fewer."""
    classes = [node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    by_name = {node.name: node for node in classes if not node.name.startswith("_")}

    def methods(node: ast.ClassDef) -> set[str]:
        own = {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        return own.union(*(methods(by_name[name]) for name in bases if by_name.get(name, node) is not node))

    assert {node.name for node in classes if len(methods(node)) > MOST_METHODS} == set(LARGE_CLASSES)


def test_the_name_of_a_test_fits_on_a_line_with_its_outcome() -> None:
    texts = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = [name for text in texts for name in re.findall(r"(?m)^ *(?:async )?def (test_\w+)", text)]
    assert len(names) > 1000
    assert {name for name in names if len(name) > LONGEST_NAME} == set()


def test_nothing_here_knows_the_made_up_kind() -> None:
    """It is brought by a package of its own, which tests install: whatever others bring needs no line here either."""
    own = {*BAKE.states, *BAKE.limits, "bakery", "loaf", "loaves", "oven", "ovens", RULES.name} - _WORDS_OF_ALL
    words = re.compile(rf"(?i)\b({'|'.join(sorted(own))})\b")
    texts = {path: path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    assert {f"{path.name}: {found[0]}" for path, text in texts.items() for found in words.finditer(text)} == set()


#: Plain words, that occur wherever something is sent, waited for, or put aside.
_WORDS_OF_ALL = {"sent", "aside", "patience", "rest", "delivery"}


def test_the_changelog_is_kept() -> None:
    """As https://keepachangelog.com/en/1.1.0/ has it."""
    page = (ROOT / "CHANGELOG.md").read_text("utf-8")
    releases = re.findall(r"(?m)^## (.*)$", page)
    assert releases[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", release) for release in releases[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"(?m)^### (.*)$", page)) <= kinds


def test_the_wheel_says_where_it_comes_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["readme"] == "README.md"
    assert project["license"] == "MIT AND 0BSD"  # ours, and of what its pages load that others have written


def test_no_two_files_of_tests_have_one_name(files: list[Path]) -> None:
    """Pytest imports them by their names alone, so it would leave the second one out."""
    names = [path.name for path in files if path.name.startswith("test_")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
