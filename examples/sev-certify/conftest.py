"""Verdicts for AMD's sev-certify, whose images boot, certify the operating system, and report.

    cd examples/sev-certify
    pytest --dispatch-repo AMDEPYC/sev-certify --dispatch-tag devel

Each image sends a report for each certificate, with the label `certificate` and, if nothing in it failed, the level
that was reached as a milestone: `c3.0.0-0`. It never says "failed": no milestone means that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_dispatch import Run

LEVEL = re.compile(r"c\d+\.\d+\.\d+-\d+")
reached: dict[str, list[str]] = {}


def pytest_dispatch_verdict(run: Run) -> str:
    """Passed if every certificate reached its level, and there is one at all."""
    certificates = [report for report in run.attempt.reports if "certificate" in report.labels]
    levels = [report.milestone for report in certificates if LEVEL.fullmatch(report.milestone)]
    reached[run.workload.name] = sorted(levels)
    return "passed" if levels and len(levels) == len(certificates) else "failed"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Which image reached which level."""
    if reached:
        terminalreporter.section("certification levels")
    for name, levels in sorted(reached.items()):
        terminalreporter.line(f"{name}: {', '.join(levels) or 'none'}")
