"""A lab in a process of its own: what comes over the pipe, and that nothing is left of it, however it ends."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import TASKS, children
from drivers import offer_driver
from faults import fault
from labs import open_sockets, plan, sims, workload
from plugin_bench import HERE, WITHOUT
from waiting import PATIENCE

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.errors import ConfigError, DispatchError, JournalError, LabError, MachineError
from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.machines.base import Spec
from pytest_dispatch.plugin.lab_child import LabChild
from pytest_dispatch.plugin.lab_process import LabProcess
from pytest_dispatch.server.api.schemas import OpenSession, RunRequest
from pytest_dispatch.sources.release import list_release
from pytest_dispatch.testing.github import FakeGitHub

pytestmark = [
    pytest.mark.skipif(not TASKS.exists(), reason="counts by /proc, as Linux has it"),
    pytest.mark.draw(10, of="processes of a lab"),
]

DRIVER = """
import asyncio, logging, os, signal, subprocess, sys, threading, time, warnings
from pytest_dispatch.core.errors import MachineError
from pathlib import Path
from pytest_dispatch.machines.base import DrivenMachine, Sign

class PlugError(MachineError):
    def __init__(self, host, port):
        super().__init__(f"no plug at {host}:{port}")

class Machine:
    def __init__(self, what):
        self.what, self.is_off = what, asyncio.Event()
        self.is_off.set()

    async def boot_from(self, new_url):
        pass

    async def on(self):
        self.is_off.clear()
        if self.what == "looks-around-when-on":
            logging.getLogger("odd.driver").warning("loaded: %s", sorted(sys.modules))
        Path(__file__).with_name("on").touch()

    async def read(self):
        yield Sign(text="smoke", fault="smoke")  # a reason to power it off and on
        try:
            await asyncio.Event().wait()
        finally:
            Path(__file__).with_name("let-go").touch()

    async def until_off(self):
        await self.is_off.wait()

    async def off(self):
        if self.is_off.is_set():
            return
        if self.what == "does-not-stop":
            raise OSError("the plug does not answer")
        if self.what == "hangs":
            time.sleep(3600)
        if self.what == "dies":
            os.kill(os.getpid(), signal.SIGKILL)


def create(spec, state):
    what = spec.text
    if what == "is-interrupted":
        os.kill(os.getppid(), signal.SIGINT)  # Ctrl-C
    print("a driver may print")
    logging.getLogger("odd.driver").warning("made in %s", state.parent)
    if what == "looks-around":
        logging.getLogger("odd.driver").warning("loaded: %s", sorted(sys.modules))
    if what == "breaks":
        raise RuntimeError("no such odd thing")
    if what == "leaves":
        os._exit(7)
    if what == "has-no-plug":
        raise PlugError("192.0.2.7", 23)
    if what == "leaves-a-child":
        subprocess.Popen(["sleep", "600"], close_fds=False)
    if what == "has-much-to-say":
        logging.getLogger("odd.driver").warning("%d", "no number")
        warnings.warn("an odd warning", stacklevel=2)
        thread = threading.Thread(target=lambda: 1 / 0, name="odd thread")
        thread.start()
        thread.join()
    machine = Machine(what)
    return [DrivenMachine(power=machine, boot=machine, console=machine)]
"""


def until_it_is_on(tmp_path: Path) -> None:
    give_up = time.monotonic() + PATIENCE
    while not (tmp_path / "odd" / "on").exists() and time.monotonic() < give_up:
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files; nothing stays in it, nor of threads, sockets and processes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    threads, sockets = set(threading.enumerate()), open_sockets()
    yield folder
    assert not set(threading.enumerate()) - threads
    assert open_sockets() == sockets
    assert list(folder.iterdir()) == []
    assert labs() == []


def labs() -> list[int]:
    """Processes of this one that are labs."""
    return children(b"pytest_dispatch.lab_program.child_process")


def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> LabProcess:
    """A lab with a third party's machine, found where this process finds it."""
    package = tmp_path / "odd"
    offer_driver(package, "odd", "odd_driver")
    (package / "odd_driver.py").write_text(DRIVER)
    monkeypatch.syspath_prepend(package)
    return LabProcess(plan(tmp_path, machines=(Spec(scheme="odd", text=what),)))


def test_a_session_and_its_end(tmp_path: Path) -> None:
    lab = LabProcess(plan(tmp_path, machines=sims(2)))
    lab.start("w")
    try:
        assert len(labs()) == 1
        client = LabClient(lab.url, lab.token)
        session = client.open(OpenSession(source="w", policy=Policy())).id
        [view] = client.submit(session, [RunRequest(key="k", workload=workload(tmp_path / "a.efi"))])
        assert next(seen for seen in client.follow(view.run.id) if seen.run.outcome).run.outcome is Outcome.PASSED
        client.end(session)
        client.close()
    finally:
        lab.stop()
    lab.stop()
    assert lab.end is not None
    assert (lab.end.pending, lab.end.unfiled) == (0, ())


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        ({"machines": (Spec(scheme="no", text="no:2"),)}, ConfigError, "expected one of .*sim, got 'no:2'"),
        ({"db": "/dev/null/journal.db"}, JournalError, "journal /dev/null/journal.db: "),
        ({"host": "192.0.2.1"}, LabError, r"cannot listen on 192\.0\.2\.1:0: this computer does not have that"),
    ],
)
def test_what_cannot_be_started_says_why(
    tmp_path: Path, changes: dict[str, object], error: type[DispatchError], why: str
) -> None:
    lab = LabProcess(plan(tmp_path, **changes))
    with pytest.raises(error, match=why):
        lab.start("w")
    lab.stop()


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("breaks", "ended with exit code 1 (RuntimeError: no such odd thing) while it started"),
        ("leaves", "ended with exit code 7 (a driver may print) while it started"),
    ],
)
def test_one_that_breaks_down_while_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, why: str
) -> None:
    with pytest.raises(LabError) as caught:
        odd(tmp_path, monkeypatch, what).start("w")
    assert str(caught.value) == f"the lab's process {why}"


def test_a_driver_s_own_error_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class is known in the lab's process alone."""
    with pytest.raises(MachineError, match=r"^no plug at 192\.0\.2\.7:23$"):
        odd(tmp_path, monkeypatch, "has-no-plug").start("w")


@fault(
    "pytest",
    "Ctrl-C while the lab starts, when drivers make its machines",
    outcome="nothing is run; the lab ends in order, and lets go of them",
    told="exit code 2, as pytest tells Ctrl-C",
)
def test_one_that_is_interrupted_while_it_starts_is_stopped_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = odd(tmp_path, monkeypatch, "is-interrupted")
    with pytest.raises(KeyboardInterrupt):
        lab.start("w")
    lab.stop()
    assert (tmp_path / "odd" / "let-go").exists()


def test_what_a_driver_leaves_behind_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = odd(tmp_path, monkeypatch, "leaves-a-child")
    lab.start("w")
    [child] = labs()
    left = Path(f"/proc/{child}/task/{child}/children").read_text().split()
    try:
        lab.stop()
    finally:
        for pid in left:
            os.kill(int(pid), signal.SIGKILL)


def test_it_is_stopped_by_nobody_but_us(tmp_path: Path) -> None:
    """Whoever ends a job signals all of its processes; pytest then ends tidily, for which it needs its lab."""
    lab = LabProcess(plan(tmp_path))
    lab.start("w")
    [child] = labs()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(child, number)
    client = LabClient(lab.url, lab.token)
    assert client.open(OpenSession(source="w", policy=Policy())).id
    client.close()
    lab.stop()


def test_folders_of_tests_may_have_modules_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pytest was called and where a conftest.py lies; and what somebody took for an entry of the path."""
    for folder, name in ((tmp_path, "json"), (tmp_path / "tests", "queue")):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text("raise RuntimeError('not the one you want')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "tests")
    sys.path.insert(0, tmp_path)  # type: ignore[arg-type]
    lab = LabProcess(plan(tmp_path))
    lab.start("w")
    lab.stop()


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("does-not-stop", "not everything could be stopped: OSError: the plug does not answer"),
        ("hangs", "the lab's event loop did not end within 2 s: something blocks it"),
        ("dies", "the lab's process was killed (SIGKILL); --dispatch-resume goes on with the session"),
    ],
)
def test_one_that_does_not_end_as_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, why: str
) -> None:
    lab = odd(tmp_path, monkeypatch, what)
    lab.start("w")
    until_it_is_on(tmp_path)
    with pytest.raises(LabError) as caught:
        lab.stop()
    assert str(caught.value) == why


def test_one_that_is_stopped_by_a_signal_is_killed(tmp_path: Path) -> None:
    lab = LabProcess(plan(tmp_path), patience=0.2)
    lab.start("w")
    [child] = labs()
    os.kill(child, signal.SIGSTOP)
    with pytest.raises(LabError, match=r"did not end within 0\.2 s, and was killed"):
        lab.stop()


def test_one_that_is_not_started_is_stopped_all_the_same(tmp_path: Path) -> None:
    """It had begun to load."""
    lab = LabProcess(plan(tmp_path))
    give_up = time.monotonic() + PATIENCE
    while not (begun := labs()) and time.monotonic() < give_up:
        time.sleep(0.001)  # it has no command line yet
    lab.stop()
    assert len(begun) == 1


def test_where_no_process_can_be_had(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "nowhere"))
    with pytest.raises(LabError, match=r"^the lab's process cannot be started \(\[Errno 2\] .*nowhere/"):
        LabProcess(plan(tmp_path))


def test_what_it_logs_is_logged_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, temporary: Path
) -> None:
    lab = odd(tmp_path, monkeypatch, "sane")
    lab.start("w")
    lab.stop()
    [logged] = [record for record in caplog.records if record.name == "odd.driver"]
    assert logged.levelno == logging.WARNING
    assert logged.getMessage().startswith(f"made in {temporary}/")


def test_nothing_that_it_has_to_say_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab = odd(tmp_path, monkeypatch, "has-much-to-say")
    lab.start("w")
    lab.stop()
    assert "UserWarning: an odd warning" in caplog.text
    assert "odd thread ended" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_what_only_a_service_needs_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is what is pytest's, or for another way to start processes."""
    lab = odd(tmp_path, monkeypatch, "looks-around")
    lab.start("w")
    lab.stop()
    [loaded] = [record.getMessage() for record in caplog.records if record.getMessage().startswith("loaded: ")]
    assert "'pytest_dispatch.lab_program.child_process'" in loaded
    away = ("pytest", "alembic", "httpx", "jinja2", "multiprocessing", "pydantic", "rich", "zeroconf")
    assert not [name for name in (*away, "pytest_dispatch.cli.serve") if f"'{name}'" in loaded]


#: What a lab loads only when it is used for the first time, by what uses it.
LATER = (
    "pytest_dispatch.beacon.mdns",  # announcing
    "pytest_dispatch.core.ended_runs",  # the end of a run
    "pytest_dispatch.store.history_rows",
    "pytest_dispatch.core.explanation",  # people who ask
    "pytest_dispatch.core.outlook",
    "pytest_dispatch.core.regression",
    "pytest_dispatch.core.notifications",  # notifications
    "pytest_dispatch.github.issue_text",  # issues
    "pytest_dispatch.github.api",
    "pytest_dispatch.lab.history",  # people who steer a service
    "pytest_dispatch.lab.reload",
    "pytest_dispatch.lab.roster",
    "pytest_dispatch.lab.notification_queue",  # notifications
    "pytest_dispatch.lab.notification_texts",
    "pytest_dispatch.machines.qemu.driver",  # QEMU
    "pytest_dispatch.results.report_body",  # reports
    "pytest_dispatch.server.api.openapi",  # people and other programs
    "pytest_dispatch.server.api.session_handlers",  # what a session asks later
    "pytest_dispatch.server.api.session_schemas",
    "pytest_dispatch.server.api.session_views",
    "pytest_dispatch.server.mdns",
    "pytest_dispatch.server.beacon_archive",  # images without the program
    "pytest_dispatch.sources.download",  # releases
    "pytest_dispatch.store.migrate",  # older journals
    "pytest_dispatch.workloads.actions",  # other kinds of workloads
    "pytest_dispatch.workloads.deployments",
    "anyio",
    "filelock",
    "httpcore",
    "httpx",
    "junitparser",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.orm",
    "xml.etree.ElementTree",
    "zeroconf",
)


def test_a_lab_that_powers_on_its_first_machine_has_loaded_no_more_than_that_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab = odd(tmp_path, monkeypatch, "looks-around-when-on")
    lab.start("w")
    client = LabClient(lab.url, lab.token)
    session = client.open(OpenSession(source="w", policy=Policy())).id
    client.submit(session, [RunRequest(key="k", workload=workload(tmp_path / "a.efi"))])
    until_it_is_on(tmp_path)
    client.close()
    lab.stop()
    [loaded] = [record.getMessage() for record in caplog.records if record.getMessage().startswith("loaded: ")]
    assert "'sqlalchemy.dialects.sqlite'" in loaded
    assert [name for name in LATER if f"'{name}'" in loaded] == []


def test_it_takes_on_what_has_changed_since_it_was_spawned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins and conftest.py may set the environment, and where modules are found, while it loads its own."""
    monkeypatch.setenv("ODD_GONE", "here")
    child = LabChild()
    package = tmp_path / "late"
    offer_driver(package, "late", "late_driver")
    (package / "late_driver.py").write_text(
        "import os\n"
        "def create(spec, state):\n"
        "    raise RuntimeError(f\"{os.environ.get('ODD_NEW')} {os.environ.get('ODD_GONE')}\")\n"
    )
    (package / "queue.py").write_text("raise SystemExit('the wrong queue')")
    monkeypatch.syspath_prepend(package)
    monkeypatch.setenv("ODD_NEW", "new")
    monkeypatch.delenv("ODD_GONE")
    lab = LabProcess(plan(tmp_path, machines=(Spec(scheme="late", text="late"),)), child)
    with pytest.raises(LabError, match="RuntimeError: new None"):
        lab.start("w")


def test_what_else_is_printed_there_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every Python here loads a module that prints; and sockets have a time-out, if nobody says otherwise."""
    (tmp_path / "sitecustomize.py").write_text("print('hello', flush=True)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.001)
    try:
        lab = LabProcess(plan(tmp_path))
        lab.start("w")
        lab.stop()
    finally:
        socket.setdefaulttimeout(before)
    assert [record.getMessage() for record in caplog.records] == ["the lab's process printed 'hello'"]


def test_a_journal_may_be_in_a_folder_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    lab = LabProcess(plan(folder))
    lab.start("w")
    lab.stop()
    assert (folder / "journal.db").exists()


def test_a_token_reaches_it_and_shows_nowhere(tmp_path: Path) -> None:
    """It is used for a private asset."""
    with FakeGitHub() as github:
        media = "application/vnd.dispatch+efi"
        github.add_release("me/lab", "v1", {"a.efi": (media, b"MZ" * 99)}, private=True)
        token = Token(github.token, "a test", github.url)
        listing = list_release("me/lab", "v1", token, github.url)
        lab = LabProcess(plan(tmp_path, token=token, api_url=github.url, machines=sims(1)))
        lab.start("w")
        try:
            [child] = labs()
            seen = Path(f"/proc/{child}/cmdline").read_bytes() + Path(f"/proc/{child}/environ").read_bytes()
            assert not any(secret.encode() in seen for secret in (github.token, lab.token))
            assert github.token not in repr(vars(lab))
            client = LabClient(lab.url, lab.token)
            session = client.open(OpenSession(source="w", policy=Policy())).id
            [view] = client.submit(session, [RunRequest(key="k", workload=listing.workloads[0])])
            assert next(seen for seen in client.follow(view.run.id) if seen.run.outcome).run.outcome is Outcome.PASSED
            client.close()
        finally:
            lab.stop()


KILLED = """
import json, os, sys, tempfile, time
sys.path[:0] = json.loads(sys.argv[1])
from labs import plan
from pathlib import Path
from pytest_dispatch.plugin.lab_child import LabChild
from pytest_dispatch.plugin.lab_process import LabProcess
tempfile.tempdir = sys.argv[2]
lab = LabProcess(plan(Path(sys.argv[3])))
if sys.argv[4] != "before it is started":
    lab.start("w")
fork = 0 if sys.argv[4] != "having forked" else os.fork() or time.sleep(600)
print(fork, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("when", ["before it is started", "at rest", "having forked"])
def test_it_does_not_outlive_whoever_started_it(tmp_path: Path, temporary: Path, when: str) -> None:
    """Killed without a word: the journal is free in a moment, and the folder is gone."""
    args = [sys.executable, "-c", KILLED, json.dumps(sys.path), str(temporary), str(tmp_path), when]
    with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        fork = int(starter.stdout.readline())
        assert len(list(temporary.iterdir())) == 1
        starter.kill()
    try:
        again = LabProcess(plan(tmp_path))
        again.start("w")
        again.stop()
    finally:
        if fork:
            os.kill(fork, signal.SIGKILL)
    give_up = time.monotonic() + PATIENCE
    while list(temporary.iterdir()) and time.monotonic() < give_up:
        time.sleep(0.01)


#: Where Python, if it is not told otherwise, takes file names for ASCII.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("flags", "environ"),
    [(["-X", "utf8"], ASCII), (["-I"], {"PYTHONPATH": "wrong"}), (["-E"], {"PYTHONPATH": "wrong"})],
    ids=["utf8", "isolated", "without environment"],
)
def test_python_s_own_options_hold_for_it_too(tmp_path: Path, flags: list[str], environ: dict[str, str]) -> None:
    (tmp_path / "dé").mkdir()
    (tmp_path / "dé" / "a.efi").write_bytes(b"MZ")
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "queue.py").write_text("raise SystemExit('the wrong queue')")
    command = [
        sys.executable,
        *flags,
        "-m",
        "pytest",
        "--dispatch-dir=dé",
        "--dispatch-machine=sim?pace=0.001",
        *HERE,
        *WITHOUT,
    ]
    ran = subprocess.run(command, cwd=tmp_path, env={**os.environ, **environ}, capture_output=True, check=False)
    assert ran.returncode == 0, (ran.stdout + ran.stderr).decode()
