"""The Linux of the examples, built as its README says, boots under real firmware in each of its three forms."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from junitparser import JUnitXml, TestCase
from plugin_bench import HERE, WITHOUT

from pytest_dispatch import Outcome, Run
from pytest_dispatch.store.journal import Journal

LINUX = Path(__file__).parent.parent.parent / "examples/linux"
FORMS = ("efi", "img", "iso")
MINUTES = 10  # for what takes one on a computer with nothing else to do
#: What the example's Makefile calls, and the package that each comes with.
TOOLS = {
    "make": "make",
    "clang": "clang",
    "lld-link": "lld",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "xorriso": "xorriso",
}
CASES = {"booted by UEFI", "memory keeps its content", "the network has a link", "cpu0 is online"}

pytestmark = [pytest.mark.qemu, pytest.mark.usefixtures("x86_64")]


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A folder with the example's three files, made anew of the packages that were fetched before."""
    if missing := [package for tool, package in TOOLS.items() if not _found(tool)]:
        pytest.skip(f"expected what builds the Linux example, found no {', '.join(missing)}: apt install them")
    if not (LINUX / "build/unpacked").exists():
        pytest.skip("expected a kernel for the Linux example, found none: `make linux` fetches it")
    out = tmp_path / "linux"
    subprocess.run(["make", "--silent", "-C", str(LINUX), f"OUT={out}"], check=True)
    return out


def _found(tool: str) -> bool:
    return bool(shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin"))


def test_each_form_boots_says_so_and_reports(built: Path, pytester: pytest.Pytester) -> None:
    ran = pytester.runpytest_subprocess(
        *(f"--dispatch-dir={built}", "--dispatch-machine=qemu", *HERE, *WITHOUT),
        *("--dispatch-retries=0", "--dispatch-db=journal.db", "--dispatch-junit=cases.xml"),
        timeout=60 * MINUTES,
    )
    ran.assert_outcomes(passed=3)
    ran.stdout.fnmatch_lines(["dispatch: *; 1 efi, 1 img, 1 iso; *"])
    path = pytester.path / "journal.db"
    runs = {run.workload.name: run for run in runs_in(path)}
    with closing(sqlite3.connect(path)) as journal:
        for form in FORMS:
            image = built / f"linux.{form}"
            run = runs[image.name]
            assert run.workload.payload["media"] == form
            assert run.outcome is Outcome.PASSED
            assert [attempt.counts.get("sent", 0) for attempt in run.attempts] == [1], (
                "firmware took the first that it got"
            )
            assert f"  File Size: {image.stat().st_size} Bytes" in console(journal, run), "as firmware says"
            [report] = run.attempt.reports
            assert report.title.startswith("Linux ")
    assert {name: CASES | {name} for name in runs} == passed_cases(pytester.path / "cases.xml")


def runs_in(path: Path) -> list[Run]:
    with closing(sqlite3.connect(path)) as db:
        [(session,)] = db.execute("SELECT id FROM dispatch_sessions")
    with closing(Journal(path)) as journal:
        return journal.reader.runs(session)


def console(journal: sqlite3.Connection, run: Run) -> list[str]:
    rows = journal.execute("SELECT text FROM dispatch_console WHERE run = ? ORDER BY id", [run.id])
    return [line for (text,) in rows for line in text.split("\n")]


def passed_cases(file: Path) -> dict[str, set[str]]:
    """The cases of each workload that neither failed nor were left out, the workload itself among them."""
    passed: dict[str, set[str]] = {}
    for case in (case for suite in JUnitXml.fromfile(str(file)) for case in suite):
        assert isinstance(case, TestCase)
        if case.is_passed:
            passed.setdefault(str(case.classname).rpartition("::")[2], set()).add(str(case.name))
    return passed
