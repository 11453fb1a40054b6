"""The way to servers without a proxy: connections are kept and given up, and errors are those of httpx."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from pytest_dispatch.sources.direct import Direct

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes"


@contextmanager
def serving(answer: Callable[[socket.socket], bool]) -> Iterator[tuple[httpx.Client, str, list[str]]]:
    """A server that answers each request by `answer`, until that says no; a client, the URL, and who has connected."""
    seen: list[str] = []

    def serve() -> None:
        while True:
            try:
                wire, (_, port) = listening.accept()
            except OSError:
                return
            seen.append(str(port))
            with wire:
                while b"\r\n\r\n" in wire.recv(65536) and answer(wire):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        with httpx.Client(transport=Direct(ssl.create_default_context(), 10.0)) as client:
            yield client, f"http://127.0.0.1:{listening.getsockname()[1]}/", seen
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def saying(text: bytes, *, goes_on: bool = True) -> Callable[[socket.socket], bool]:
    def answer(wire: socket.socket) -> bool:
        wire.sendall(text)
        return goes_on

    return answer


def test_a_connection_is_used_again_when_its_answer_was_read() -> None:
    with serving(saying(ANSWER)) as (client, url, seen):
        assert [client.get(url).content for _ in range(3)] == [b"bytes"] * 3
        assert len(seen) == 1


@pytest.mark.parametrize("head", [ANSWER, ANSWER.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)])
def test_one_that_the_server_closes_is_not_missed(head: bytes) -> None:
    """Whether or not it has said so."""
    with serving(saying(head, goes_on=False)) as (client, url, seen):
        assert [client.get(url).content for _ in range(3)] == [b"bytes"] * 3
        assert len(seen) == 3


def test_what_was_not_read_is_not_taken_for_the_next_answer() -> None:
    with serving(saying(ANSWER)) as (client, url, seen):
        with client.stream("GET", url):
            pass
        assert client.get(url).content == b"bytes"
        assert len(seen) == 2


def test_a_body_that_breaks_off_is_an_error() -> None:
    with serving(saying(ANSWER[:-1], goes_on=False)) as (client, url, _), client.stream("GET", url) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"byte"
        with pytest.raises(httpx.ReadError, match="the connection was cut"):
            next(pieces)


@pytest.mark.parametrize("text", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200])
def test_what_is_no_answer_is_an_error(text: bytes) -> None:
    with serving(saying(text, goes_on=False)) as (client, url, _), pytest.raises(httpx.TransportError):
        client.get(url)


def test_a_body_in_chunks_is_read_whole() -> None:
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbytes\r\n0\r\n\r\n"
    with serving(saying(text)) as (client, url, _):
        assert [client.get(url).content for _ in range(2)] == [b"bytes"] * 2


def test_where_nobody_listens_is_an_error() -> None:
    with socket.socket() as closed, httpx.Client(transport=Direct(ssl.create_default_context(), 10.0)) as client:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(httpx.ConnectError):
            client.get(f"http://127.0.0.1:{closed.getsockname()[1]}/")
