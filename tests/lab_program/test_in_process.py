"""A lab inside the process: built from settings, stopped within bounds, nothing left behind."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from drivers import offer_driver
from faults import fault
from ipv6 import needs_ipv6
from labs import client_of, embedded, open_sockets, sims, workload

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.errors import ConfigError, DispatchError, JournalError, LabError
from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.lab_program.in_process import STOP, InProcessLab
from pytest_dispatch.lab_program.machine_making import make_machines, told_apart
from pytest_dispatch.lab_program.option_values import read_spec
from pytest_dispatch.machines.base import Spec
from pytest_dispatch.server.api.schemas import OpenSession, RunRequest, RunView

pytestmark = pytest.mark.draw(1 / 3, of=__name__)


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _nothing_stays(temp: Path) -> Iterator[None]:
    threads, sockets = set(threading.enumerate()), open_sockets()
    yield
    left = {thread for thread in threading.enumerate() if thread.is_alive()} - threads
    assert not left
    assert not list(temp.iterdir())
    assert open_sockets() == sockets


def outcome_of(client: LabClient, view: RunView) -> Outcome:
    done = next(seen for seen in client.follow(view.run.id) if seen.run.outcome is not None)
    assert done.run.outcome is not None
    return done.run.outcome


def test_a_session_and_its_end(tmp_path: Path, temp: Path) -> None:
    lab = embedded(tmp_path, machines=sims(2))
    lab.start("w")
    try:
        assert len(list(temp.iterdir())) == 1  # for the machines
        client = LabClient(lab.url, lab.token)
        session = client.open(OpenSession(source="w", policy=Policy())).id
        wanted = [RunRequest(key=n, workload=workload(tmp_path / f"{n}.efi", plays=n)) for n in ("pass", "fail")]
        views = client.submit(session, wanted)
        assert [outcome_of(client, view) for view in views] == [Outcome.PASSED, Outcome.FAILED]
        client.end(session)
        client.close()
    finally:
        lab.stop()
    lab.stop()


@pytest.mark.parametrize(
    ("machines", "allow", "status"),
    [
        ((), (), 200),
        ((), ("127.0.1.0/24",), 403),
        (sims(1), (), 403),
        (sims(1), ("127.0.1.0/24",), 403),
        (sims(1), ("127.0.1.0/24", "127.0.0.2/32"), 200),
    ],
)
def test_beside_machines_of_its_own_a_lab_takes_those_that_are_invited(
    tmp_path: Path, machines: tuple[Spec, ...], allow: tuple[str, ...], status: int
) -> None:
    """Whoever is known by an address could as well be a workload of theirs that keeps its token back."""
    lab = embedded(tmp_path, machines=machines, allow=allow)
    lab.start("w")
    try:
        assert asked(lab, {}) == status
    finally:
        lab.stop()


def test_the_tools_that_machines_boot_by_are_those_that_were_named(tmp_path: Path) -> None:
    lab = embedded(tmp_path, boot_tools=frozenset({"wget"}))
    lab.start("w")
    try:
        assert [asked(lab, {"User-Agent": agent}) for agent in ("Wget", "curl/8.5.0")] == [200, 403]
    finally:
        lab.stop()


def asked(lab: InProcessLab, headers: dict[str, str]) -> int:
    """What a machine at 127.0.0.2 gets that asks to boot; without work, the power-off program."""
    client = LabClient(lab.url, lab.token)
    client.open(OpenSession(source="w", policy=Policy()))  # else it would wait for one
    client.close()
    connection = HTTPConnection("127.0.0.1", urlsplit(lab.url).port, source_address=("127.0.0.2", 0), timeout=60)
    with closing(connection):
        connection.request("HEAD", "/dispatch", headers=headers)
        return connection.getresponse().status


def test_each_lab_has_a_token_of_its_own(tmp_path: Path) -> None:
    first, second = embedded(tmp_path), embedded(tmp_path)
    assert first.token != second.token
    assert len(first.token) >= 32
    assert first.token not in repr(first)


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        (
            {"machines": (Spec(scheme="toaster", text="toaster:2"),)},
            ConfigError,
            "expected one of .*sim, got 'toaster:2'",
        ),
        ({"machines": (Spec(scheme="sim", options=(("x", "1"),), text="sim?x=1"),)}, ConfigError, "unknown option 'x'"),
        ({"db": "/dev/null/journal.db"}, JournalError, "journal /dev/null/journal.db: "),
        ({"host": "192.0.2.1"}, LabError, r"cannot listen on 192\.0\.2\.1:0: this computer does not have that address"),
        ({"host": "no.such.host.invalid"}, LabError, r"cannot listen on no\.such\.host\.invalid:0: "),
    ],
)
def test_what_cannot_be_started_says_why_and_leaves_nothing(
    tmp_path: Path, changes: dict[str, object], error: type[DispatchError], why: str
) -> None:
    lab = embedded(tmp_path, **changes)
    with pytest.raises(error, match=why):
        lab.start("w")
    lab.stop()


@pytest.mark.parametrize(
    ("host", "family"),
    [("127.0.0.1", socket.AF_INET), pytest.param("::1", socket.AF_INET6, marks=needs_ipv6)],
)
def test_a_port_that_is_taken(tmp_path: Path, host: str, family: socket.AddressFamily) -> None:
    with socket.create_server((host, 0), family=family) as other:
        port = other.getsockname()[1]
        lab = embedded(tmp_path, host=host, port=port)
        shown = f"[{host}]" if ":" in host else host
        with pytest.raises(LabError) as caught:
            lab.start("w")
    assert str(caught.value) == (
        f"cannot listen on {shown}:{port}: another program listens there; use another port with"
        f" --dispatch-bind {shown}:PORT (port 0 picks a free one)"
    )


def test_the_journal_of_a_lab_that_runs_is_not_for_another(tmp_path: Path) -> None:
    first, second = embedded(tmp_path), embedded(tmp_path)
    first.start("w")
    try:
        with pytest.raises(JournalError, match="another lab is using it"):
            second.start("w")
    finally:
        first.stop()
    second.start("w")
    second.stop()


def test_a_resumed_session_listens_where_its_machines_report_to(tmp_path: Path) -> None:
    first = embedded(tmp_path)
    first.start("w")
    with client_of(first) as client:
        opened = client.open(OpenSession(source="w", policy=Policy()))
        client.submit(opened.id, [RunRequest(key="k", workload=workload(tmp_path / "a.efi"))])
    first.stop()
    second = embedded(tmp_path, resume=True)
    second.start("w")
    try:
        assert second.url == first.url
        with client_of(second) as client:
            again = client.open(OpenSession(source="w", policy=Policy(), resume=True))
            assert (again.id, again.resumed) == (opened.id, True)
            other = client.open(OpenSession(source="elsewhere", policy=Policy(), resume=True))
            assert not other.resumed
    finally:
        second.stop()


def interrupted(tmp_path: Path, machine: str = "") -> int:
    """A session that was cut off, with a workload that this machine of the network runs; returns its port."""
    lab = embedded(tmp_path)
    lab.start("w")
    port = int(lab.url.rpartition(":")[2])
    with client_of(lab) as client:
        opened = client.open(OpenSession(source="w", policy=Policy()))
        client.submit(opened.id, [RunRequest(key="k", workload=workload(tmp_path / "a.efi"))])
        if machine:
            asked = HTTPConnection("127.0.0.1", port, source_address=(machine, 0))
            with closing(asked):
                asked.request("GET", "/dispatch")
                assert asked.getresponse().read()
    lab.stop()
    return port


@fault(
    "pytest",
    "`--dispatch-resume` with port 0, when another program took the port of the interrupted session meanwhile",
    outcome="unchanged; it goes on at another port",
    told="`port … of the interrupted session is taken: it goes on at port …`, in the header and the summary",
)
def test_a_resumed_session_goes_on_at_another_port_if_its_own_is_taken(tmp_path: Path) -> None:
    """And if it is resumed once more, at that one."""
    old = interrupted(tmp_path)
    lab = embedded(tmp_path, resume=True)
    with socket.create_server(("127.0.0.1", old)):
        lab.start("w")
        try:
            moved = int(lab.url.rpartition(":")[2])
            assert lab.damage == f"port {old} of the interrupted session is taken: it goes on at port {moved}"
            with client_of(lab) as client:
                assert client.open(OpenSession(source="w", policy=Policy(), resume=True)).resumed
        finally:
            lab.stop()
    again = embedded(tmp_path, resume=True)
    again.start("w")
    try:
        assert again.url == lab.url
        assert again.damage == ""
    finally:
        again.stop()


@fault(
    "pytest",
    "`--dispatch-resume` with port 0, when another program took the port at which a machine of the network reports",
    outcome="nothing begins; exit code 4",
    told="the port, and the machine that is to report there",
)
def test_a_resumed_session_does_not_leave_the_port_where_a_machine_is_to_report(tmp_path: Path) -> None:
    old = interrupted(tmp_path, "127.0.0.9")
    lab = embedded(tmp_path, resume=True)
    with socket.create_server(("127.0.0.1", old)), pytest.raises(LabError) as caught:
        lab.start("w")
    assert str(caught.value) == (
        f"cannot listen on port {old} of 127.0.0.1, where the interrupted session has still to hear from 127.0.0.9:"
        " another program listens there; end that, or start without --dispatch-resume"
    )
    lab.start("w")
    lab.stop()


def test_a_cache_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    cache = tmp_path / "file"
    cache.touch()
    said = "--dispatch-cache: expected a folder that can be written, got"
    for folder, why in ((cache, "it is a file"), (cache / "below", f"Not a directory: {cache / 'below'}")):
        with pytest.raises(ConfigError) as caught:
            embedded(tmp_path, cache=folder).start("w")
        assert str(caught.value) == f"{said} {folder} ({why}); name another one"


@pytest.mark.usefixtures("alone_on_mdns")
@pytest.mark.parametrize(
    ("path", "said"),
    [("/dispatch", "dispatch-"), (f"/{'x' * 300}", "not announced: ")],  # too long for a TXT record
)
def test_a_lab_says_how_it_is_announced(tmp_path: Path, path: str, said: str) -> None:
    """On the one interface that it listens on; that it cannot be announced is no reason to stop."""
    lab = embedded(tmp_path, announce=True, path=path)
    lab.start("w")
    try:
        with client_of(lab) as client:
            session = client.open(OpenSession(source="w", policy=Policy())).id
            deadline = time.monotonic() + 60
            while not client.session(session).mdns.startswith(said) and time.monotonic() < deadline:
                time.sleep(0.005)
            assert client.session(session).mdns.startswith(said)
    finally:
        lab.stop()


def test_a_lab_stops_in_time_while_a_slow_machine_downloads(tmp_path: Path) -> None:
    lab = embedded(tmp_path)
    lab.start("w")
    with client_of(lab) as client:
        session = client.open(OpenSession(source="w", policy=Policy())).id
        wanted = [RunRequest(key="k", workload=workload(tmp_path / "a.efi", 8 * 2**20))]
        client.submit(session, wanted)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            slow.connect(("127.0.0.1", int(lab.url.rpartition(":")[2])))
            slow.sendall(b"GET /dispatch HTTP/1.0\r\n\r\n")
            assert slow.recv(15) == b"HTTP/1.0 200 OK"
            lab.stop()  # raises if it takes longer than STOP
    assert STOP <= 2


def test_machines_come_from_whoever_offers_their_scheme(tmp_path: Path) -> None:
    machines = make_machines(Spec(scheme="sim", count=3, text="sim:3"), tmp_path)
    assert [machine.name for machine in machines] == ["sim-1", "sim-2", "sim-3"]


THIRD_PARTY = """
import asyncio
from pathlib import Path
from pytest_dispatch.machines.base import DrivenMachine, Sign

class Machine:
    is_on = False

    async def boot_from(self, new_url):
        pass

    async def on(self):
        self.is_on = True
        Path(__file__).with_name("on").touch()

    async def read(self):
        yield Sign(text="smoke", fault="smoke")  # a reason to power it off and on

    async def off(self):
        if self.is_on:
            raise OSError("the plug does not answer")

    async def until_off(self):
        if self.is_on:
            await asyncio.Event().wait()

def create(spec, state):
    assert state.is_dir()
    machine = Machine()
    return [DrivenMachine(power=machine, boot=machine, console=machine)]
"""


def test_a_third_party_s_machine_that_does_not_stop_is_told_and_the_rest_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by its entry point, as any installed package would be."""
    package = tmp_path / "third"
    offer_driver(package, "third", "third")
    (package / "third.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(package)
    lab = embedded(tmp_path, machines=(Spec(scheme="third", text="third"),))
    lab.start("w")
    give_up = time.monotonic() + 60
    while not (package / "on").exists() and time.monotonic() < give_up:
        time.sleep(0.005)
    with pytest.raises(LabError, match=r"^not everything could be stopped: OSError: the plug does not answer$"):
        lab.stop()


def test_machines_of_several_specs_are_told_apart(tmp_path: Path) -> None:
    specs = ("sim:2", "sim?pace=0.1", "sim:2")
    machines = [machine for spec in specs for machine in make_machines(read_spec(spec), tmp_path)]
    assert [machine.name for machine in told_apart(machines)] == ["sim-1", "sim-2", "sim-3", "sim-4", "sim-5"]
