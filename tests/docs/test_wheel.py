"""What is released is built from the sources alone: whoever builds it gets the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from docs_examples import ROOT

EPOCH = "1767225600"
PARTS = ("src", "tests", "docs", "pyproject.toml", "README.md", "LICENSE", ".gitignore")

pytestmark = pytest.mark.skipif(not (ROOT / "src").exists(), reason="the sources are not here: see the job 'wheel'")


def build(tree: Path, umask: int, **environ: str) -> dict[str, bytes]:
    """Build in a copy of the sources, whose files are as old as the copy; returns what came out, by name."""
    tree.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tree / part, copy_function=shutil.copyfile, ignore=ignore)
        else:
            shutil.copyfile(ROOT / part, tree / part)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "out"],
        cwd=tree,
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH, **environ},
        umask=umask,
        check=True,
        capture_output=True,
        timeout=300,
    )
    return {path.name: path.read_bytes() for path in (tree / "out").iterdir()}


@pytest.mark.draw(1, of="builds")
def test_two_builds_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    """In another folder, at another time, in another time zone and locale, by somebody with another umask."""
    one = build(tmp_path / "one", 0o022, TZ="UTC", LC_ALL="C.UTF-8", PYTHONHASHSEED="1")
    two = build(tmp_path / "a" / "longer path", 0o077, TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="2")
    assert sorted(name.rpartition("-")[2].partition(".")[2] for name in one) == ["1.0.tar.gz", "whl"]
    assert {name: hashlib.sha256(data).hexdigest() for name, data in one.items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in two.items()
    }
    [wheel] = (tmp_path / "one" / "out").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"pytest_dispatch"}
    assert {f"pytest_dispatch/{path.relative_to(ROOT / 'src' / 'pytest_dispatch')}" for path in sources()} <= names
    [archive] = (tmp_path / "one" / "out").glob("*.tar.gz")
    with tarfile.open(archive) as inside:
        assert any(name.endswith("/tests/docs/test_wheel.py") for name in inside.getnames())


def sources() -> list[Path]:
    """What the package is made of."""
    paths = [path for path in (ROOT / "src" / "pytest_dispatch").rglob("*") if "__pycache__" not in path.parts]
    return [path for path in paths if path.suffix in {".py", ".html", ".css", ".js", ".svg", ".LICENSE"}]
