"""What goes wrong with MAAS when a rack is listed: an error that says what failed, never an empty or a shorter rack."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pytest_dispatch.core.errors import SourceError
from pytest_dispatch.maas.api import MaasKey
from pytest_dispatch.sources.rack import Rack, list_rack
from pytest_dispatch.testing.faults import FaultOptions
from pytest_dispatch.testing.maas import FakeMaas
from pytest_dispatch.testing.testflinger import FakeTestflinger

LISTED = "GET /MAAS/api/2.0/machines/"
MACHINE: dict[str, Any] = {"system_id": "000001", "hostname": "node-1"}


@pytest.fixture
def maas() -> Iterator[FakeMaas]:
    with FakeMaas() as maas:
        for name in ("node-1", "node-2", "node-3"):
            maas.add_machine(name, tags=["rack-7"])
        yield maas


@pytest.fixture
def testflinger() -> Iterator[FakeTestflinger]:
    with FakeTestflinger() as testflinger:
        for name in ("node-1", "node-2", "node-3"):
            testflinger.add_agent(name, location="TOR3")
        yield testflinger


def rack(maas: str, testflinger: FakeTestflinger, key: str = "consumer:token:s3cr3t", **more: Any) -> Rack:
    read = MaasKey.read("a test", key, maas)
    return Rack(**{"name": "rack-7", "maas_url": maas, "maas_key": read, "testflinger_url": testflinger.url, **more})


def told(rack: Rack) -> str:
    with pytest.raises(SourceError) as error:
        list_rack(rack)
    start = f"the rack {rack.name} cannot be listed: MAAS at 127.0.0.1 "
    assert str(error.value).startswith(start), "it says what failed, and nothing of a rack without machines"
    assert "s3cr3t" not in str(error.value)
    return str(error.value).removeprefix(start)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 401, "message": "Authorization Error"}, "answered GET /machines/ with 401 Unauthorized: Authoriza"),
        ({"status": 403, "message": "Forbidden"}, "answered GET /machines/ with 403 Forbidden"),
        ({"status": 429}, "answered GET /machines/ with 429 Too Many Requests"),
        ({"status": 500, "html": True}, "answered GET /machines/ with 500 Internal Server Error"),
        ({"status": 502, "html": True}, "answered GET /machines/ with 502 Bad Gateway"),
        ({"status": 503, "message": "busy"}, "answered GET /machines/ with 503 Service Unavailable: busy"),
        ({"status": 301}, "answered GET /machines/ with 301 Moved Permanently, which is not followed; is its address"),
        ({"drop": True}, "cannot be reached: "),
        ({"drop_after_commit": True}, "cannot be reached: "),
        ({"status": 200, "data": {"machines": []}}, "answered with something that is not MAAS's (Expected `array`"),
        ({"status": 200, "data": [MACHINE, {"hostname": "node-2"}]}, "answered with something that is not MAAS's"),
        ({"status": 200, "data": [MACHINE, None]}, "answered with something that is not MAAS's (Expected `object`"),
    ],
)
def test_an_answer_that_is_no_list_of_machines_is_an_error(
    maas: FakeMaas, testflinger: FakeTestflinger, fault: FaultOptions, expected: str
) -> None:
    maas.fail_next(LISTED, **fault)
    assert told(rack(maas.url, testflinger)).startswith(expected)
    assert [each.name for each in list_rack(rack(maas.url, testflinger)).workloads] == ["node-1", "node-2", "node-3"]


def test_a_tag_that_is_not_there_and_a_wrong_key_are_errors(maas: FakeMaas, testflinger: FakeTestflinger) -> None:
    assert "No such tag(s): 'rack-9'" in told(rack(maas.url, testflinger, name="rack-9"))
    wrong = told(rack(maas.url, testflinger, "consumer:token:other"))
    assert wrong.startswith("answered GET /machines/ with 401 Unauthorized: Authorization Error: Invalid access token")


@contextmanager
def cut_off(machines: list[dict[str, Any]], sent: int) -> Iterator[str]:
    """Run a MAAS that sends so many bytes of its list, and hangs up."""
    body = json.dumps(machines).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:sent])
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/MAAS"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("missing", [1, 40])
def test_a_list_that_breaks_off_in_the_middle_is_no_shorter_rack(testflinger: FakeTestflinger, missing: int) -> None:
    machines = [{**MACHINE, "hostname": f"node-{number}"} for number in (1, 2, 3)]
    with cut_off(machines, len(json.dumps(machines)) - missing) as url:
        assert told(rack(url, testflinger)).startswith("cannot be reached: ")


def test_a_testflinger_that_fails_once_maas_has_answered_is_an_error(
    maas: FakeMaas, testflinger: FakeTestflinger
) -> None:
    testflinger.fail_next("GET /v1/agents/data", status=503)
    with pytest.raises(SourceError, match=r"the rack rack-7 cannot be listed: Testflinger at 127.0.0.1 answered GET"):
        list_rack(rack(maas.url, testflinger))


def test_each_machine_that_is_not_deployed_is_named_with_the_reason(
    maas: FakeMaas, testflinger: FakeTestflinger
) -> None:
    maas.add_machine("node-1", tags=["rack-7"])
    maas.add_machine("node-4", tags=["rack-7"])
    testflinger.add_agent("node-2", location="FRA1")
    testflinger.add_agent("node-5", location="TOR3")
    found = list_rack(rack(maas.url, testflinger, location="TOR*"))
    assert [each.name for each in found.workloads] == ["node-3"]
    assert dict(found.left_out) == {
        "node-1": "MAAS has 2 machines of that name under the tag, in several domains, and agents are found by their"
        " names",
        "node-2": "its agent is at 'FRA1', expected 'TOR*'",
        "node-4": "MAAS has it, and Testflinger has no agent of that name",
        "node-5": "Testflinger has an agent of that name there, and MAAS has no such machine under the tag",
    }
