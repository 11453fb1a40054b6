"""Requests over plain HTTP: connections that are kept, that the server closes, and that are cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pytest_dispatch.client.channel import ChannelError
from pytest_dispatch.client.plain_channel import PlainChannel

WAIT = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Talk = Callable[[socket.socket], None]


@contextmanager
def talking(*talks: Talk) -> Iterator[PlainChannel]:
    """Serve one connection after the other, each by its function."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for talk in talks:
                connection, _ = listening.accept()
                with connection:
                    connection.settimeout(WAIT)
                    talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        channel = PlainChannel("127.0.0.1", listening.getsockname()[1], WAIT)
        try:
            yield channel
        finally:
            channel.close()
            thread.join(WAIT)
            assert not thread.is_alive()


def heard(connection: socket.socket) -> bytes:
    """Return a request that has no body."""
    said = b""
    while not said.endswith(b"\r\n\r\n"):
        said += connection.recv(2**16)
    return said


def answering(*answers: bytes) -> Talk:
    def talk(connection: socket.socket) -> None:
        for answer in answers:
            heard(connection)
            connection.sendall(answer)

    return talk


def get(channel: PlainChannel) -> bytes:
    return channel.request("GET", "/", None, {}, WAIT).body


def test_a_connection_is_used_again() -> None:
    with talking(answering(OK, OK)) as channel:
        assert [get(channel), get(channel)] == [b"ok", b"ok"]


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    closed = threading.Event()

    def first(connection: socket.socket) -> None:
        answering(OK)(connection)
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with talking(first, answering(OK)) as channel:
        assert get(channel) == b"ok"
        assert closed.wait(WAIT)
        assert get(channel) == b"ok"


def test_a_refusal_before_the_whole_body_is_read() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlong")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(2**20):
            pass

    size = 2**24
    pieces = (bytes(2**16) for _ in range(size // 2**16))
    with talking(refuse) as channel:
        answer = channel.request("PUT", "/", pieces, {"Content-Length": str(size)}, WAIT)
        assert (answer.status, answer.body) == (413, b"long")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "the connection was closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", "the connection was cut"),
        (b"SSH-2.0-OpenSSH\r\n", "what answers there speaks no HTTP"),
    ],
)
def test_no_whole_answer(said: bytes, why: str) -> None:
    with talking(answering(said)) as channel, pytest.raises(ChannelError, match=f"^{why}$"):
        get(channel)


def test_a_stream_that_is_cut() -> None:
    begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\none\r\n\r\n"
    with talking(answering(begun)) as channel, channel.stream("/", {}, WAIT) as stream:
        lines = stream.lines()
        assert next(lines) == "one"
        with pytest.raises(ChannelError, match="the connection was cut"):
            next(lines)


@pytest.mark.parametrize("end", ["hang up", "close"])
def test_a_stream_ends_for_the_thread_that_reads_it(end: str) -> None:
    begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\none\r\n\r\n"

    def talk(connection: socket.socket) -> None:
        answering(begun)(connection)
        assert connection.recv(1) == b""  # it says nothing, until the client has gone

    with talking(talk) as channel, channel.stream("/", {}, WAIT) as stream:
        lines = stream.lines()
        assert next(lines) == "one"
        ending = threading.Thread(target=stream.hang_up if end == "hang up" else channel.close)
        ending.start()
        with pytest.raises(ChannelError, match="the connection was cut"):
            next(lines)
        ending.join(WAIT)


def test_what_a_reader_of_a_stream_raises_is_its_own() -> None:
    with (
        talking(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as channel,
        pytest.raises(BrokenPipeError),
        channel.stream("/", {}, WAIT),
    ):
        raise BrokenPipeError
