"""Kinds that installed packages add, beside ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.workloads.registry import known_kinds

WHERE = "the entry point there = added:ADDED in pytest_dispatch.kinds"
BAKES = "from bakery.lifecycle import RULES\nfrom pytest_dispatch.lab.kind_services import Kind\n"
UKI = "kind='uki', content_type='application/vnd.dispatch+uki', served='application/efi', suffix='.uki'"


def install(folder: Path, source: str) -> None:
    """A package with one entry point, as pip leaves it."""
    info = folder / "added-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pytest_dispatch.kinds]\nthere = added:ADDED\n")
    (folder / "added.py").write_text(source)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "added", raising=False)
    return tmp_path


def test_where_nothing_is_added_workloads_boot() -> None:
    assert [kind.rules.name for kind in known_kinds().values()] == [*known_kinds()] == ["boot", "actions", "deployment"]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (f"{BAKES}ADDED = Kind(RULES)", ["boot", "actions", "deployment", "bake"]),
        (f"from pytest_dispatch.core.media import Media\nADDED = Media({UKI})", ["boot", "actions", "deployment"]),
    ],
    ids=["a kind", "a medium of ours"],
)
def test_one_is_added(packages: Path, source: str, names: list[str]) -> None:
    install(packages, source)
    assert [*known_kinds()] == names


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (
            "from pytest_dispatch.workloads.boot.service import BOOT_KIND as ADDED",
            "kind 'boot': expected one kind of this name, got two: pytest_dispatch.kinds",
        ),
        (
            f"{BAKES}from dataclasses import replace\nADDED = Kind(replace(RULES, name='iso'))",
            "kind 'iso': expected one kind of this name, got two: pytest_dispatch.kinds",
        ),
        (
            f"{BAKES}from dataclasses import replace\nADDED = Kind(replace(RULES, name='B-1'))",
            f"{WHERE}: expected a Kind there, got ConfigError: kind: expected an identifier in lower case, got 'B-1'",
        ),
        (
            f"{BAKES}from dataclasses import replace\nADDED = Kind(replace(RULES, lifecycles={{}}))",
            f"{WHERE}: expected a Kind there, got ConfigError: kind bake: expected a lifecycle at least, got none",
        ),
        ("ADDED = 'bake'", f"{WHERE}: expected a Kind, got 'bake'"),
        (
            "import flour",
            f"{WHERE}: expected a Kind there, got ModuleNotFoundError: No module named 'flour'",
        ),
    ],
    ids=[
        "one that is there",
        "one called as a medium is",
        "a name that is none",
        "no lifecycle",
        "none",
        "none that can be loaded",
    ],
)
def test_one_that_cannot_be_used_is_told(packages: Path, source: str, complaint: str) -> None:
    install(packages, source)
    with pytest.raises(ConfigError) as caught:
        known_kinds()
    assert str(caught.value) == complaint
