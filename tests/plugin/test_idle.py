"""Installed and not asked for, the plugin is absent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from plugin_bench import SIMS, WITHOUT, Bench

import pytest_dispatch

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

HEAVY = ("aiohttp", "anyio", "asyncio", "httpx", "msgspec", "rich", "sqlalchemy", "zeroconf")

_LOADED = f"""
import sys, pytest
code = pytest.main(["-q", "test_it.py", "-p", "no:anyio", *{WITHOUT!r}])
print([name for name in {HEAVY!r} if name in sys.modules], int(code))
"""


def test_nothing_heavy_is_loaded_and_nothing_is_printed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="def test_it(): pass")
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOADED], cwd=pytester.path, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[] 0"
    assert "dispatch" not in result.stdout
    assert result.stderr == ""


_LISTED = f"""
import sys, pytest
code = pytest.main(["-q", "--collect-only", "--dispatch-dir=w", "-p", "no:anyio", *{WITHOUT!r}])
print([name for name in {HEAVY!r} if name in sys.modules], int(code))
"""


def test_who_only_looks_needs_no_server_and_no_database(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    result = subprocess.run([sys.executable, "-c", _LISTED], cwd=bench.path, capture_output=True, text=True, check=True)
    assert "w::a.efi" in result.stdout
    assert result.stdout.splitlines()[-1] == "['msgspec'] 0"


#: What pytest's side loads when it is first used: people wait for the first machine meanwhile.
LATER = (
    "pytest_dispatch.core.explanation",
    "pytest_dispatch.core.notifications",
    "pytest_dispatch.server.api.session_schemas",
    "httpx",
    "junitparser",
    "sqlalchemy",
)

_BEGUN = f"""
import sys
def pytest_runtest_logstart():
    print("loaded:", [name for name in {LATER!r} if name in sys.modules])
"""


def test_a_session_that_begins_has_loaded_no_more_than_that_takes(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(_BEGUN)
    result = bench.start("--dispatch-dir=w", SIMS, "-s")
    [loaded] = [line.partition("loaded: ")[2] for line in result.outlines if "loaded: " in line]
    assert loaded == "[]"


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, pytest_dispatch; print([n for n in sys.modules if n.startswith('pytest_dispatch.')])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_are_sorted_and_there() -> None:
    assert pytest_dispatch.__all__ == sorted(pytest_dispatch.__all__)
    for name in pytest_dispatch.__all__:
        assert getattr(pytest_dispatch, name)
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = pytest_dispatch.nothing_of_ours


def test_the_version_is_that_of_what_runs_whatever_is_installed_later() -> None:
    code = (
        "import sys, pytest_dispatch as ours; began = ours.__version__; sys.path.clear(); sys.meta_path.clear();"
        " print(began == ours.__version__)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout.strip(), result.stderr) == ("True", "")


def test_pytest_is_used_by_its_public_api_alone() -> None:
    source = Path(pytest_dispatch.__file__).parent
    assert [path.name for path in source.rglob("*.py") if "_pytest" in path.read_text(encoding="utf-8")] == []


def test_a_blocked_plugin_leaves_no_option(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("-p", "no:dispatch", "--dispatch-dir=w")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "unrecognized arguments: --dispatch-dir=w" in result.stderr.str()


def test_help_and_markers_start_nothing(pytester: pytest.Pytester) -> None:
    shown = pytester.runpytest_subprocess("--help", "--dispatch-dir=nowhere").stdout.str()
    assert "--dispatch-repo=OWNER/REPO" in shown
    assert "@pytest.mark.dispatch_efi" in pytester.runpytest_subprocess("--markers").stdout.str()
