"""What the network's errors mean, whom a token is for, and when to ask again."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl

import pytest

from pytest_dispatch.beacon.urls import is_url
from pytest_dispatch.support.network_errors import Origin, reason_of


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.github.com/repos", ("https", "api.github.com", 443)),
        ("http://127.0.0.1", ("http", "127.0.0.1", 80)),
        ("https://GHE.example.com:8443/api/v3", ("https", "ghe.example.com", 8443)),
        ("http://[::1]:8080/", ("http", "::1", 8080)),
        ("http://x:99999", ("http", "x", -1)),
        ("nothing", ("", "", -1)),
    ],
)
def test_the_origin_of_a_url_is_its_scheme_host_and_port(url: str, origin: tuple[str, str, int]) -> None:
    assert Origin.of(url) == origin


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("https://api.github.com", True),
        ("http://127.0.0.1:80/x", True),
        ("ftp://127.0.0.1/x", False),
        ("http:///x", False),
        ("http://x:0", False),
        ("http://x:65536", False),
        ("http://[", False),
        ("/x", False),
    ],
)
def test_urls_that_can_be_asked_for(url: str, usable: bool) -> None:
    assert is_url(url) is usable


def wrapped(cause: BaseException) -> BaseException:
    """A library's error around the system's, as they come."""
    outer = RuntimeError("library words")
    outer.__cause__ = ExceptionGroup("all tries", [ValueError(), LookupError("another wrapper", cause)])
    return outer


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "its name cannot be resolved (no network?)"),
        (ssl.SSLCertVerificationError(1, "self-signed"), "its certificate is not trusted: self-signed"),
        (ssl.SSLError(1, "wrong version"), "no secure connection: wrong version"),
        (TimeoutError(), "no answer within 90s"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "connection refused"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "the connection was cut"),
        (http.client.IncompleteRead(b""), "the connection was cut"),
        (OSError(errno.ENETUNREACH, "Network is\nunreachable"), "Network is unreachable"),
        (ValueError("no error of the network"), "the connection was cut"),
    ],
)
def test_reasons_in_a_few_words(cause: Exception, words: str) -> None:
    assert reason_of(cause, 90.0) == words
    assert reason_of(wrapped(cause), 90.0) == words
