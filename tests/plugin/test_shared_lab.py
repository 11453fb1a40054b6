"""`--dispatch-lab URL`: pytest as a client of a lab that others use too."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from faults import fault
from forks import Run
from plugin_bench import WITHOUT, Bench, clean
from shared_labs import SharedLab
from waiting import PATIENCE

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

KINDS = ("failure", "error", "skipped")
SCENARIOS = {"a": "pass", "b": "fail", "c": "multi-report", "d": "no-boot"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLab]:
    """One for all tests here that do not end it."""
    folder = tmp_path_factory.mktemp("lab")
    with SharedLab(folder, ("--machine=sim:2?pace=0.001",), dict(os.environ)) as lab:
        yield lab


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[SharedLab]:
    """A lab that a test may end."""
    with SharedLab(tmp_path / "lab", ("--machine=sim:2?pace=0.05",), dict(os.environ)) as lab:
        yield lab


def command(lab: SharedLab, *args: str, folder: str = "w") -> tuple[str, ...]:
    return (f"--dispatch-dir={folder}", f"--dispatch-lab={lab.url}", *WITHOUT, *args)


def spawn(bench: Bench, lab: SharedLab, *args: str, folder: str = "w") -> pytest.RunResult:
    """Run a session in a process of its own."""
    environ = {**os.environ, "DISPATCH_TOKEN": lab.token}
    return clean(bench.fork(*command(lab, *args, folder=folder), environ=environ))


def begin(bench: Bench, lab: SharedLab, *args: str, folder: str = "w") -> tuple[Run, Path]:
    """Start a session in a process of its own; returns it, and the file that has its output."""
    out = bench.path / f"out-{len(list(bench.path.glob('out-*')))}"
    environ = {**os.environ, "DISPATCH_TOKEN": lab.token}
    started = bench.forks.start(bench.path, *command(lab, "-v", *args, folder=folder), out=out, environ=environ)
    return started, out


def wait_for(path: Path, text: str) -> None:
    give_up = time.monotonic() + PATIENCE
    while text not in path.read_text():
        assert time.monotonic() < give_up, path.read_text()
        time.sleep(0.01)


def told(path: Path) -> list[str]:
    """What is said of each case, in no order, without what differs between any two runs."""
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return sorted(f"{case.get('name')} {sorted(e.tag for e in case if e.tag in KINDS)}" for case in cases)


def test_all_is_as_with_a_lab_of_its_own(bench: Bench, lab: SharedLab) -> None:
    bench.workloads(SCENARIOS)
    soon = "--dispatch-boot-timeout=2s"
    own = bench.spawn("--junitxml=own.xml", "--dispatch-junit=own-cases.xml", soon)
    for name, workers in {"alone": (), "four": ("-n4",)}.items():
        files = (f"--junitxml={name}.xml", f"--dispatch-junit={name}-cases.xml")
        shared = spawn(bench, lab, *files, soon, *workers)
        assert shared.parseoutcomes() == own.parseoutcomes()
        assert shared.ret == own.ret
        expects = r"dispatch: w; 4 efi; lab (http\S+) \(version \S+\); 2 machines fit; 0 runs ahead; starts at once"
        assert lab.url in [line[1] for line in map(re.compile(expects).fullmatch, shared.outlines) if line]
        for kind in ("", "-cases"):
            assert told(bench.path / f"{name}{kind}.xml") == told(bench.path / f"own{kind}.xml")


OF_THE_LAB = """
from pytest_dispatch import Workload

def pytest_dispatch_workloads(workloads):
    payload = {{"media": "efi", "location": "folder:images/{file}", "size": {size}}}
    workloads[:] = [Workload(name="big.efi", kind="boot", payload=payload)]
"""


def test_workloads_may_be_in_a_folder_on_the_labs_computer(bench: Bench, tmp_path: Path) -> None:
    (folder := tmp_path / "lab").mkdir()
    (folder / "images").mkdir()
    (folder / "images" / "big.efi").write_bytes(b"sim: pass\n")
    file = """\
server: {api: "{api}", boot: "{boot}", announce: false}
database: {url: lab.db}
sources: {cache: assets, folders: {images: images}}
machines: [{id: sim, driver: "sim?pace=0.001"}]
"""
    bench.workloads({"a": "pass"})
    conftest = bench.path / "conftest.py"
    with SharedLab(folder, (), dict(os.environ), file=file) as lab:
        conftest.write_text(OF_THE_LAB.format(file="big.efi", size=10))
        spawn(bench, lab).assert_outcomes(passed=1)
        conftest.write_text(OF_THE_LAB.format(file="../token", size=10))
        refused = spawn(bench, lab)
        assert refused.ret != 0
        assert "expected a file by its way down from the folder, got 'folder:images/../token'" in "\n".join(
            refused.outlines + refused.errlines
        )
    assert "expected folder:NAME/FILE with --dispatch-lab URL alone" in bench.refused("--dispatch-dir=w")


HOOKS = """
import os
from pathlib import Path
from pytest_dispatch import Outcome

def pytest_runtest_setup(item):
    pid = os.getpid()
    children = Path(f"/proc/{pid}/task/{pid}/children")
    Path("children").write_text(children.read_text() if children.exists() else "")

def pytest_dispatch_verdict(run):
    return Outcome.FAILED if run.workload.name == "a.efi" else None

def pytest_dispatch_event(run, event, attempt):
    with open("events", "a") as file:
        file.write(f"{run.workload.name} {event}\\n")
"""


def test_hooks_decide(bench: Bench, lab: SharedLab) -> None:
    bench.workloads({"a": "pass", "b": "pass"})
    bench.path.joinpath("conftest.py").write_text(HOOKS)
    result = spawn(bench, lab)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*the verdict hook says failed*"])
    assert bench.path.joinpath("children").read_text() == ""  # it starts no lab of its own
    assert {"a.efi report", "b.efi report"} <= set(bench.path.joinpath("events").read_text().splitlines())


@fault(
    "Crashes",
    "a shared lab is ended and started again while sessions use it",
    outcome="what runs goes on, what waited waits again, no outcome is lost",
    told="`the lab at … cannot be reached: …: waiting for it, at most 15m`, once; `the lab is back after …`",
)
@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, ()), (signal.SIGKILL, ("-n2",))], ids=["ended", "killed, two workers"]
)
def test_a_lab_that_is_restarted(bench: Bench, own_lab: SharedLab, number: int, workers: tuple[str, ...]) -> None:
    bench.workloads(dict.fromkeys("abcdefgh", "pass"))
    run, out = begin(bench, own_lab, "--dispatch-junit=cases.xml", *workers)
    wait_for(out, "PASSED")
    own_lab.end(number)
    wait_for(out, "waiting for it, at most 15m")
    own_lab.start()
    assert run.wait(PATIENCE) == pytest.ExitCode.OK, out.read_text()
    text = out.read_text()
    assert "8 passed" in text
    assert text.count("waiting for it, at most 15m") == 1
    assert text.count("the lab is back after") == 1
    cases = told(bench.path / "cases.xml")
    assert [case for case in cases if ".efi" in case] == [f"{name}.efi []" for name in "abcdefgh"]
    assert len(cases) >= 3 * 8  # more, if a machine had reported to the lab that was killed, and ran it again


def test_a_lab_that_says_nothing_for_a_while(bench: Bench, own_lab: SharedLab) -> None:
    bench.workloads(dict.fromkeys("abcd", "pass"))
    run, out = begin(bench, own_lab)
    wait_for(out, "PASSED")
    own_lab.suspend()
    time.sleep(1.0)
    own_lab.resume()
    assert run.wait(PATIENCE) == pytest.ExitCode.OK, out.read_text()
    assert "4 passed" in out.read_text()


@fault(
    "pytest",
    "Ctrl-C in a session of a shared lab",
    outcome="what has not begun is cancelled; what runs goes on to its outcome, also for `--dispatch-resume`",
    told="`… workloads have no outcome yet; --dispatch-resume goes on with them`",
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_session_that_is_cut_off_and_resumed(bench: Bench, own_lab: SharedLab, number: int) -> None:
    bench.workloads(dict.fromkeys("abcdef", "pass"))
    run, out = begin(bench, own_lab)
    wait_for(out, "PASSED")
    os.kill(run.pid, number)
    assert run.wait(PATIENCE) == (pytest.ExitCode.INTERRUPTED if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        assert "--dispatch-resume goes on with them" in out.read_text()
    resumed = spawn(bench, own_lab, "-v", "--dispatch-resume")
    resumed.assert_outcomes(passed=6)
    assert "; resumed" in resumed.stdout.str()
    begun = set(re.findall(r"(\S+) booting on", out.read_text()))
    again = set(re.findall(r"(\S+) assigned on", resumed.stdout.str()))
    assert begun
    assert not begun & again


def test_a_session_with_a_lease_stays_for_its_owner_also_after_its_end(bench: Bench, lab: SharedLab) -> None:
    bench.workloads({"a": "pass", "b": "fail"})
    mine = ("--dispatch-owner=nightly, 7", "--dispatch-lease=1h", "--dispatch-resume")
    first = spawn(bench, lab, "-v", *mine)
    assert "; nothing to resume" in first.stdout.str()
    again = spawn(bench, lab, "-v", *mine)
    again.assert_outcomes(passed=1, failed=2)
    assert "; resumed" in again.stdout.str()
    assert "assigned on" not in again.stdout.str(), "it has all outcomes already"
    other = spawn(bench, lab, "-v", "--dispatch-owner=nightly, 8", "--dispatch-lease=1h", "--dispatch-resume")
    assert "; nothing to resume" in other.stdout.str()


def test_two_sessions_at_once_have_their_own_runs(bench: Bench, lab: SharedLab) -> None:
    bench.workloads({"a": "pass", "b": "fail", "c": "pass"})
    bench.workloads({"a": "fail", "b": "pass", "c": "pass", "d": "pass"}, folder="v")
    one, out = begin(bench, lab)
    two, other = begin(bench, lab, "-n2", folder="v")
    assert (one.wait(PATIENCE), two.wait(PATIENCE)) == (1, 1)
    for text, failed, passed in [(out.read_text(), "b", "ac"), (other.read_text(), "a", "bcd")]:
        assert set(re.findall(r"(?m)FAILED \w::(\w)\.efi", text)) == set(failed)
        through = re.findall(r"(?m)\] PASSED \w::(\w)\.efi|^\w::(\w)\.efi PASSED", text)
        assert {one or other for one, other in through} == set(passed)


def test_what_is_held_is_said_to_who_waits(bench: Bench, own_lab: SharedLab) -> None:
    bench.workloads({"a": "pass"})

    def ask(method: str, path: str, body: object = None) -> None:
        headers = {"Authorization": f"Bearer {own_lab.token}"}
        url = f"{own_lab.url}/api/v1{path}"
        httpx.request(method, url, json=body, headers=headers, timeout=PATIENCE).raise_for_status()

    ask("POST", "/hold", {"reason": "the air conditioning", "owner": "ada", "until": 2e9})
    ask("POST", "/groups/lab/hold", {"reason": "new fans"})
    started, out = begin(bench, own_lab)
    wait_for(out, "held: the lab by ada until 2033-05-1")
    wait_for(out, ": the air conditioning\n")
    wait_for(out, "held: the group lab by lab: new fans\n")
    ask("DELETE", "/hold")
    wait_for(out, "released: the lab\n")
    assert "a.efi PASSED" not in out.read_text()
    ask("DELETE", "/groups/lab/hold")
    assert started.wait(PATIENCE) == 0
    assert "released: the group lab\n" in out.read_text()


def test_a_large_upload_is_shown(bench: Bench, lab: SharedLab) -> None:
    bench.workloads({"a": "pass"})
    with (bench.path / "w" / "a.efi").open("ab") as file:
        file.write(b"\nsim: pass\n" + bytes(5 * 2**20))
    first = spawn(bench, lab, "-v")
    assert re.search(r"(?m)^uploading a\.efi to the lab: \d+ % of 5 MB$", first.stdout.str())
    first.assert_outcomes(passed=1)


# What is refused


@contextmanager
def answering(status: int, value: object) -> Iterator[str]:
    """A server that always gives this answer; gives its address."""
    body = json.dumps(value).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refused(bench: Bench, *args: str) -> str:
    """The one line about something that cannot be used."""
    bench.workloads({"a": "pass"})
    result = bench.pytester.runpytest_inprocess("--dispatch-dir=w", *WITHOUT, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    [line] = [line for line in result.errlines if line]
    return line.removeprefix("ERROR: ")


@pytest.mark.parametrize(
    ("status", "view", "why"),
    [
        (200, {"version": "0.1", "api": 0}, "the lab at {url} (0.1, API 0) is too old for this pytest-dispatch"),
        (
            200,
            {"version": "9.9", "api": 9},
            "this pytest-dispatch (*, API 1) is too old for the lab at {url} (9.9, API",
        ),
        (404, {"error": "no '/api/v1/lab' here"}, "the lab at {url} is too old for this pytest-dispatch (*, API 1)"),
        (401, {"error": "who?"}, "the lab at {url} does not accept the token from DISPATCH_TOKEN; set DISPATCH_TOKEN"),
        (200, [], "expected a lab at {url}, got an answer of something else"),
    ],
    ids=["older", "newer", "much older", "unknown token", "no lab"],
)
def test_a_lab_that_speaks_otherwise(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, status: int, view: object, why: str
) -> None:
    monkeypatch.setenv("DISPATCH_TOKEN", "hush")
    with answering(status, view) as url:
        line = refused(bench, f"--dispatch-lab={url}")
    assert re.match(re.escape(why.replace("{url}", url)).replace(r"\*", "[^,]*"), line), line


@pytest.mark.parametrize(
    "option",
    [
        "machine=sim",
        "bind=127.0.0.1:0",
        "path=/x",
        "allow=10.0.0.0/8",
        "boot-tool=curl",
        "db=j.db",
        "cache=c",
        "no-mdns",
    ],
)
def test_what_only_a_lab_of_its_own_has(bench: Bench, option: str) -> None:
    line = refused(bench, "--dispatch-lab=http://lab:80/", f"--dispatch-{option}")
    name = option.partition("=")[0]
    assert line.startswith(
        f"--dispatch-{name}: expected it with a lab of pytest's own, got it with --dispatch-lab http"
    )


def test_other_things_that_cannot_be_used(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    nobody = "http://127.0.0.1:1"
    why = f"--dispatch-lab {nobody}: expected a token for this lab, got none; set DISPATCH_TOKEN, or run dispatch login"
    assert refused(bench, f"--dispatch-lab={nobody}") == f"{why} {nobody}"
    why = "--dispatch-lab: expected a lab's address such as https://lab.example:8080, got 'ftp://x'"
    assert refused(bench, "--dispatch-lab=ftp://x") == why
    why = "--dispatch-lab: expected process, thread or a lab's address such as https://lab.example:8080, got 'oven:80'"
    assert refused(bench, "--dispatch-lab=oven:80") == why
    for option in ("--dispatch-owner=me", "--dispatch-lease=1h"):
        name = option.partition("=")[0]
        why = f"{name}: expected it with --dispatch-lab URL, got it with a lab of pytest's own; leave it out, or name"
        assert refused(bench, option) == f"{why} the lab"
    monkeypatch.setenv("DISPATCH_TOKEN", "hush")
    why = "--dispatch-lease: expected a duration"
    assert refused(bench, f"--dispatch-lab={nobody}", "--dispatch-lease=soon").startswith(why)
    why = "--dispatch-lease: expected a duration longer than 0, got '0'"
    assert refused(bench, f"--dispatch-lab={nobody}", "--dispatch-lease=0") == why
    why = "--dispatch-lease: expected at most 876000h (100 years), got '900000h'"
    assert refused(bench, f"--dispatch-lab={nobody}", "--dispatch-lease=900000h") == why
    assert refused(bench, f"--dispatch-lab={nobody}").startswith(f"the lab at {nobody} cannot be reached: ")


def test_what_an_ini_file_says_of_a_lab_of_its_own_is_left_out(bench: Bench, lab: SharedLab) -> None:
    bench.pytester.makeini(f"[pytest]\ndispatch_machine = oven\ndispatch_db = j.db\ndispatch_lab = {lab.url}\n")
    bench.workloads({"a": "pass"})
    command = ("--dispatch-dir=w", f"--dispatch-lab-token={lab.token}", *WITHOUT)
    result = clean(bench.fork(*command))
    result.assert_outcomes(passed=1, warnings=1)
    line = "dispatch: not used, since the lab's own configuration says that: dispatch_machine, dispatch_db"
    assert line in result.outlines
    said = result.stdout.str()
    assert "--dispatch-lab-token: everybody on this computer can read it in the list of processes" in said
    assert lab.token not in said
    assert not (bench.path / "j.db").exists()
