"""What a lab's process and the one that started it say to each other: told as it was meant, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from labs import plan, sims

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.lab_program.child_messages import (
    Logged,
    Message,
    Ready,
    Refused,
    Start,
    Stop,
    Stopped,
    decode,
    encode,
)
from pytest_dispatch.lab_program.option_values import read_spec


@pytest.mark.parametrize(
    "message",
    [
        Start(plan(Path("/x")), "w"),
        Start(plan(Path("/x"), machines=(*sims(2), read_spec("qemu?memory=9&labels=a=b,c")), allow=("::/8",)), "ü\n"),
        Start(plan(Path("/x"), boot_tools=frozenset({"curl", "wget"}), private=False, resume=True), ""),
        Start(plan(Path("/x\udce9")), "\udce9"),  # a name of a file that is no UTF-8
        Stop(),
        Ready("http://127.0.0.1:1", "t", "mended"),
        Refused("LabError", "no"),
        Logged("a.b", 30, "two\nlines"),
        Stopped(2, ("o/r: 403", "x"), "OSError"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_is_told_as_it_was_meant(message: Message) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == message


def test_a_token_is_told_whole() -> None:
    start = decode(encode(Start(plan(Path("/x"), token=Token("t0ken", "a test", "http://127.0.0.1:9")), "w")))
    assert isinstance(start, Start)
    assert start.config.token is not None
    assert (start.config.token.reveal(), start.config.token.source) == ("t0ken", "a test")
    assert start.config.token.api_url == "http://127.0.0.1:9"
    assert "t0ken" not in repr(start)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "got something else"),
        (b"\xff", "got something else"),
        (b"[]", "got something else"),
        (b"{}", "got something else"),
        (b'{"start": {}, "stop": {}}', "got something else"),
        (b'{"halt": {}}', "got something else"),
        (b"[" * 100_000, "got something else"),
        (b'{"start": {"source": "w"}}', "got one with a mistake (Object missing required field `config`)"),
        (
            b'{"logged": {"name": "hush", "level": "hush", "text": ""}}',
            "got one with a mistake (Expected `int`, got `str` - at `$.level`)",
        ),
        (
            encode(Start(plan(Path("/x"), token=Token("hush", "x")), "w")).replace(b'"hush"', b'"hu sh"'),
            "the token from x is invalid",
        ),
    ],
    ids=lambda value: str(value[:30]),
)
def test_what_is_no_message_is_refused_and_not_shown(line: bytes, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        decode(line)
    assert why in str(refused.value)
    assert "hush" not in str(refused.value)
    assert "\n" not in str(refused.value)
