"""What doubles of a filer have in common."""

from __future__ import annotations

from pytest_dispatch.core.known_issues import Tracking
from pytest_dispatch.core.model import Issue
from pytest_dispatch.github.filer_interface import Filed


class FilesEach:
    """A filer for sessions in which each report becomes an issue of its own."""

    def update(self, issue: Issue, tracking: Tracking, may_exist: bool) -> Filed:
        raise AssertionError("no issue is kept for a failure here")
