"""Sessions that pytest ends early, though nobody is in a hurry: they are wound up as others are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest
from faults import fault
from plugin_bench import Bench

from pytest_dispatch.client.run_cache import RunCache
from pytest_dispatch.plugin.event_listener import EventListener
from pytest_dispatch.plugin.terminal.progress import TerminalDisplay
from pytest_dispatch.testing.github import FakeGitHub

if TYPE_CHECKING:
    from pytest_dispatch.client.lab_client import LabClient

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

NEW_ISSUE = "POST /repos/*/issues"


def filing(github: FakeGitHub) -> tuple[str, ...]:
    github.add_repo("me/lab")
    where = ("--dispatch-issues-repo=me/lab", f"--dispatch-api-url={github.url}")
    return ("--dispatch-issues=all", *where, f"--dispatch-token={github.token}")


@fault(
    "pytest",
    "`-x`, `--maxfail`, `--stepwise` end the session at a failure, with pytest-xdist too",
    outcome="what has ended keeps its verdict; its issues are filed, and machines are told to power off",
    told="what a whole session tells",
)
@pytest.mark.parametrize("early", [["-x"], ["--maxfail=1"], ["--sw"], ["-n2", "-x"], ["-n2", "--maxfail=1"]])
@pytest.mark.draw(2)
def test_a_session_that_ends_at_a_failure_is_wound_up(bench: Bench, github: FakeGitHub, early: list[str]) -> None:
    bench.workloads({"a": "fail"})
    github.fail_next(NEW_ISSUE, status=502)
    result = bench.spawn(*filing(github), *early)
    assert result.parseoutcomes()["failed"] >= 1
    assert [issue.title for issue in github.issues("me/lab")] == ["a.efi"]
    result.stdout.fnmatch_lines(["=* dispatch *=", "issue: a.efi: http*", "machine sim-*: 1 (a.efi)"])


def test_what_could_not_be_filed_is_said_however_quiet_pytest_is(bench: Bench, github: FakeGitHub) -> None:
    bench.workloads({"a": "pass"})
    github.fail_next(NEW_ISSUE, status=403)
    result = bench.run(*filing(github), "-q")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["not filed, kept for the next session: a.efi: *403*"])
    result.stdout.no_fnmatch_line("machine sim-*")


def test_a_hook_that_takes_long_is_waited_for_once(pytestconfig: pytest.Config) -> None:
    release = threading.Event()

    class Slow:
        epoch = 1
        outlasts = False

        def changes(self, _session: str, _after: int) -> Iterator[object]:
            release.wait(60)
            return iter(())

    display = TerminalDisplay(pytestconfig)
    watcher = EventListener(pytestconfig, cast("LabClient", Slow()), "s", display, RunCache(), judges=False)
    watcher.start()
    watcher.stop(0.05)
    watcher.stop(3600)
    assert not release.is_set()
    release.set()
    display.close()
