"""What a quick run leaves out, and that no other run leaves out anything."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def bench(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A file of tests that take long, one with cases and a mark of its own, and a file beside it."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    pytester.makeini("[pytest]\nmarkers = draw")
    pytester.makeconftest(
        """
        from torture import some_cases

        def pytest_collection_modifyitems(items):
            items[:] = some_cases(items)[0]
        """
    )
    long = "\n".join(f"def test_long_{number}(): pass" for number in range(8))
    pytester.makepyfile(
        test_sessions=f"""
import pytest
pytestmark = pytest.mark.draw(1 / 3, of=__name__)
{long}
@pytest.mark.draw(2)
@pytest.mark.parametrize("case", range(5))
def test_cases(case): pass
""",
        test_beside="def test_short(): pass",
    )
    return pytester


def taken(bench: pytest.Pytester) -> list[str]:
    result = bench.runpytest_subprocess("-v", "--disable-plugin-autoload")
    assert result.ret == 0
    return re.findall(r"(?m)::(\S+) PASSED", result.stdout.str())


def test_a_quick_run_draws_a_share_of_a_file_and_a_number_of_cases(
    bench: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCH_QUICK", "1")
    draws: dict[str, tuple[str, ...]] = {}
    for seed in ("1", "1", "2"):
        monkeypatch.setenv("DISPATCH_SEED", seed)
        drawn = tuple(taken(bench))
        counts = Counter(name.rstrip("0123456789_[]") for name in drawn)
        assert counts == {"test_long": 3, "test_cases": 2, "test_short": 1}
        assert draws.setdefault(seed, drawn) == drawn
    assert draws["1"] != draws["2"]


def test_no_other_run_leaves_out_a_test(bench: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPATCH_QUICK", raising=False)
    assert len(taken(bench)) == 8 + 5 + 1
