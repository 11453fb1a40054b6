"""`--dispatch-notify`: who is told of a session's end, seen from the terminal."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from faults import fault
from plugin_bench import APART, ENOUGH, IN_THREAD, SIMS, WITHOUT, Bench
from receivers import Receiver, receiving
from waiting import PATIENCE, wait_until

from pytest_dispatch.plugin.settings import read_settings

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

SECRET = "TopSecretPath77"


@pytest.fixture
def bench(pytester: pytest.Pytester, forks: object) -> Bench:
    bench = Bench(pytester, forks)  # type: ignore[arg-type]
    bench.workloads({"a": "pass", "b": "fail"})
    return bench


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def deliveries(bench: Bench) -> list[tuple[str, str]]:
    [journal] = Path(bench.path).rglob("journal.db")
    with closing(sqlite3.connect(journal)) as db:
        return db.execute("SELECT state, url FROM dispatch_notifications").fetchall()


@pytest.mark.parametrize("where", [(), (APART,)], ids=["in a thread", "in a process"])
def test_the_end_of_a_session_is_told(
    bench: Bench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, where: tuple[str, ...]
) -> None:
    monkeypatch.setenv("DISPATCH_NOTIFY", f"{receiver.url(SECRET)} {receiver.url('second')}")
    result = bench.run(*where)
    result.assert_outcomes(passed=1, failed=2)
    assert "not told" not in result.stdout.str()
    assert receiver.titles == ["session w: 1 passed, 1 failed"] * 2
    assert sorted(receiver.asked) == [f"/{SECRET}", "/second"]
    assert receiver.messages[0]["message"].startswith("b.efi: failed")
    assert deliveries(bench) == [("sent", "")] * 2


def test_xdist_tells_it_once(bench: Bench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCH_NOTIFY", receiver.url(SECRET))
    bench.spawn("-n2").assert_outcomes(passed=1, failed=2)
    assert receiver.titles == ["session w: 1 passed, 1 failed"]


def test_on_the_command_line_it_is_masked_and_warned_of(bench: Bench, receiver: Receiver) -> None:
    bench.pytester.makeconftest(
        "import sys\n"
        "def pytest_report_header(config):\n"
        "    notify = config.getoption('dispatch_notify')\n"
        "    return [f'{config.invocation_params} {sys.argv} {config.option} {notify}']\n"
    )
    given = [f"--dispatch-notify={receiver.url(SECRET)}", "--dispatch-notify", receiver.url("another-secret")]
    result = bench.spawn("-vv", "--showlocals", *given)
    result.assert_outcomes(passed=1, failed=2, warnings=1)
    shown = result.stdout.str() + result.stderr.str()
    assert "--dispatch-notify: everybody on this computer can read it in the list of processes" in shown
    assert "json://***" in shown
    assert SECRET not in shown
    assert "another-secret" not in shown
    assert sorted(receiver.asked) == [f"/{SECRET}", "/another-secret"]


def test_an_ini_file_names_a_variable(bench: Bench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", receiver.url(SECRET))
    bench.pytester.makeini("[pytest]\ndispatch_notify = ${HOOK}\n")
    bench.run()
    assert receiver.asked == [f"/{SECRET}"]
    bench.pytester.makeini(f"[pytest]\ndispatch_notify = {receiver.url(SECRET)}\n")
    line = bench.refused("--dispatch-dir=w")
    assert line.startswith("--dispatch-notify: expected no secret in an ini file or behind -o")
    assert "${VARIABLE}" in line
    assert SECRET not in line


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("${NOT_SET}", "--dispatch-notify: expected the variable NOT_SET in the environment, got none; set it, or"),
        (
            "hunter2-secret",
            "--dispatch-notify: expected a URL that apprise knows, such as mailtos://… or slack://…",
        ),
        ("bogus://hunter2-secret", "got one that begins with bogus://; see https://github.com/caronc/apprise/wiki"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_runs(bench: Bench, given: str, problem: str) -> None:
    line = bench.refused("--dispatch-dir=w", f"--dispatch-notify={given}", "--dispatch-bind=127.0.0.1:0")
    assert problem in line
    assert "hunter2" not in line


def test_without_apprise_the_line_says_what_to_install(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.path / "apprise.py").write_text("raise ImportError('none here')\n")
    monkeypatch.syspath_prepend(bench.path)
    monkeypatch.setenv("DISPATCH_NOTIFY", "json://127.0.0.1/x")
    result = bench.fork(*bench.command(APART))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "expected apprise to send notifications with, got no such package; install pytest-dispatch[notify]" in (
        result.stderr.str()
    )


@fault(
    "Notifications",
    "A session's own target refuses the message about its end",
    outcome="the outcomes stay; the next lab on the journal sends it",
    told="`not told, --dispatch-notify 1 (…): …; tried again while this lab runs, and by the next one`",
)
def test_what_is_refused_is_told_and_sent_by_the_next_session(
    bench: Bench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCH_NOTIFY", receiver.url(SECRET))
    receiver.status = 503
    result = bench.run("-q")
    result.assert_outcomes(passed=1, failed=2)
    [line] = [line for line in result.outlines if line.startswith("not told")]
    assert line.startswith("not told, --dispatch-notify 1 (json): ")
    assert "503" in line
    assert line.endswith("; tried again while this lab runs, and by the next one")
    assert deliveries(bench) == [("waiting", receiver.url(SECRET))]
    receiver.status = 200
    monkeypatch.delenv("DISPATCH_NOTIFY")
    with closing(sqlite3.connect(next(Path(bench.path).rglob("journal.db")))) as db:
        db.execute("UPDATE dispatch_notifications SET due = due - 3600")  # an hour later
        db.commit()
    command = bench.command(IN_THREAD, machines=bench.gated("2?pace=0.001"))
    again = bench.forks.start(bench.path, *command, out=bench.path / "again")
    wait_until(lambda: deliveries(bench) == [("sent", "")])
    bench.path.joinpath("go").touch()
    assert again.wait(PATIENCE) == pytest.ExitCode.TESTS_FAILED
    assert set(receiver.titles) == {"session w: 1 passed, 1 failed"}


def test_a_session_that_is_cut_off_is_told_by_the_next_one(
    bench: Bench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCH_NOTIFY", receiver.url(SECRET))
    bench.pytester.makeconftest(ENOUGH)
    bench.run()
    assert [state for state, _ in deliveries(bench)] == ["waiting"]
    (bench.path / "conftest.py").unlink()
    bench.run("--dispatch-resume").assert_outcomes(passed=1, failed=2)
    # The first may have gone out already when its lab ended before it could note that: a delivery comes at least once.
    assert len(receiver.titles) in {2, 3}
    assert "it was interrupted, and can be resumed" in "".join(each["message"] for each in receiver.messages)


def test_nobody_named_loads_no_apprise(bench: Bench) -> None:
    bench.pytester.makeconftest("import sys\ndef pytest_unconfigure(): print('apprise' in sys.modules)\n")
    result = bench.start("--dispatch-dir=w", SIMS, IN_THREAD)
    assert result.outlines[-1] == "False"


def test_settings_show_no_url(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfig(
        "--dispatch-dir=.", "--dispatch-notify=slack://A/B/C", "--dispatch-notify=json://x", *WITHOUT
    )
    settings = read_settings(config)
    assert [url.reveal() for url in settings.notify] == ["slack://A/B/C", "json://x"]
    assert "slack://A" not in repr(settings)
    assert config.getoption("dispatch_notify") == ["slack://***", "json://***"]
