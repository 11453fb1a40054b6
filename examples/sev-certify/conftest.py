"""Verdicts for AMD's sev-certify, whose images boot, certify the operating system, and report.

    cd examples/sev-certify
    pytest --dispatch-repo AMDEPYC/sev-certify --dispatch-tag devel

Each image sends a report for each certificate, with the label `certificate` and, as a milestone, the level that was
reached: `c3.0.0-0`. It never says "failed". No milestone means that not even level 0 was reached; with one, tests of
higher levels may have failed all the same, and the folds in the report (`<details>`) tell which.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_dispatch import Run

LEVEL = re.compile(r"c\d+\.\d+\.\d+-(\d+)")
LEAST = 0  # the level that each certificate has to reach; raise it to ask for more
reached: dict[str, list[str]] = {}


def pytest_dispatch_verdict(run: Run) -> str:
    """Passed if every certificate reached the level that is asked for, and there is one at all."""
    certificates = [report for report in run.attempt.reports if "certificate" in report.labels]
    levels = [found for report in certificates if (found := LEVEL.fullmatch(report.milestone))]
    reached[run.workload.name] = sorted(found[0] for found in levels)
    enough = [found for found in levels if int(found[1]) >= LEAST]
    return "passed" if enough and len(enough) == len(certificates) else "failed"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Which image reached which level."""
    if reached:
        terminalreporter.section("certification levels")
    for name, levels in sorted(reached.items()):
        terminalreporter.line(f"{name}: {', '.join(levels) or 'none'}")
