"""How tests are spread over the processes of pytest-xdist, and which files took longest."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from children import processor_time
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

#: Booting a machine by emulation takes a whole processor: one process does that, and the others all else.
EMULATED = "tests/qemu/"


class OneEmulator(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Keeps the tests of a file together, which share fixtures, and all that boot emulated machines in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return EMULATED if nodeid.startswith(EMULATED) else str(super()._split_scope(nodeid))


def longest_first(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Begin with what takes longest, so that no process is left alone with it: machines, then files with long tests."""
    items = list(items)
    long = {_file(item.nodeid) for item in items if item.get_closest_marker("draw")}
    return sorted(items, key=lambda item: (not item.nodeid.startswith(EMULATED), _file(item.nodeid) not in long))


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class Longest:
    """Sums up what the tests of each file took, and tells of the longest ones if `--durations` asks for any."""

    def __init__(self) -> None:
        self._took: Counter[str] = Counter()
        self._used: Counter[str] = Counter()
        self._before = 0.0

    def pytest_collection_finish(self) -> None:
        self._before = processor_time()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Give the last of a test's reports what all of it used; pytest-xdist hands that on."""
        report = yield
        if call.when == "teardown":
            before, self._before = self._before, processor_time()
            report.used = self._before - before  # type: ignore[attr-defined]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not isinstance(report, pytest.SubtestReport):  # its time is part of the test's
            file = _file(report.nodeid)
            self._took[file] += report.duration  # type: ignore[assignment]  # seconds
            self._used[file] += getattr(report, "used", 0.0)  # type: ignore[assignment]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        most = config.getoption("durations")
        if most is not None:
            terminalreporter.section("slowest files: seconds, and of the processor")
            terminalreporter.line(f"{sum(self._took.values()):8.1f}s {sum(self._used.values()):8.1f}s all")
            for file, took in self._took.most_common(most or None):
                terminalreporter.line(f"{took:8.1f}s {self._used[file]:8.1f}s {file}")
