"""What the client of a lab says when things are not as they should be; how it speaks is held by `test_openapi`."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.model import Policy
from pytest_dispatch.server.api.schemas import OpenSession


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A server that is no lab."""

    status = 200
    text = "hello"
    kind = "text/html"
    heard: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.heard.append((self.path, self.headers["Authorization"]))
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.text)))
        self.end_headers()
        self.wfile.write(self.text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the standard library
        """Nobody reads it."""


@contextmanager
def elsewhere(**fields: object) -> Iterator[tuple[LabClient, list[tuple[str, str]]]]:
    heard: list[tuple[str, str]] = []
    handler = type("Handler", (Elsewhere,), {**fields, "heard": heard})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        client = LabClient(f"http://127.0.0.1:{server.server_port}", "a token")
        try:
            yield client, heard
        finally:
            client.close()
            server.shutdown()
            thread.join()


def test_a_lab_that_is_not_there(closed_port: int) -> None:
    client = LabClient(f"http://127.0.0.1:{closed_port}", "a token")
    why = rf"the lab at http://127\.0\.0\.1:{closed_port} cannot be reached: .*refused"
    with pytest.raises(LabError, match=why):
        client.open(OpenSession(source="w", policy=Policy()))
    with pytest.raises(LabError, match=why):
        next(client.changes("s", 0))
    client.close()


def test_the_environment_names_no_way_to_a_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with elsewhere(text="[]", kind="application/json") as (client, heard):
        with pytest.raises(LabError, match="got an answer of something else: Expected `object`, got `array`"):
            client.session("s")
        assert heard == [("/api/v1/sessions/s", "Bearer a token")]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, r"expected a lab at http://127\.0\.0\.1:\d+, got an answer of something else: JSON is malformed"),
        ({"status": 404}, r"expected a lab at http://127\.0\.0\.1:\d+/, got 404 from it"),
        ({"status": 500, "text": "[1]"}, "got 500 from it"),
        ({"status": 500, "text": '{"message": "x"}'}, "got 500 from it"),
        ({"status": 503, "text": '{"error": "the disk is full"}'}, "^the disk is full$"),
    ],
)
def test_an_answer_of_something_else(fields: dict[str, object], why: str) -> None:
    with elsewhere(**fields) as (client, _), pytest.raises(LabError, match=why):
        client.run("r")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, r"expected a lab at http://127\.0\.0\.1:\d+, got text/html in place of events"),
        ({"status": 401, "text": '{"error": "expected a token"}'}, "^expected a token$"),
        ({"status": 502}, "got 502 from it"),
    ],
)
def test_an_event_stream_of_something_else(fields: dict[str, object], why: str) -> None:
    with elsewhere(**fields) as (client, _), pytest.raises(LabError, match=why):
        next(client.changes("s", 0))


def test_events_end_when_the_stream_does() -> None:
    text = 'id: 3\nevent: progress\ndata: {"r": 5}\n\n:\n\n'
    with elsewhere(text=text, kind="text/event-stream") as (client, _):
        assert list(client.changes("s", 7)) == [(7, {"r": 5})]


def test_the_token_does_not_show() -> None:
    client = LabClient("http://127.0.0.1:9", "s3cret")
    assert "s3cret" not in repr(client)
    client.close()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Where nobody listens, nor can."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port: int = closed.getsockname()[1]
        yield port
