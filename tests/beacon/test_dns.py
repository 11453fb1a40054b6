"""DNS messages: what another implementation writes is read, and no message costs much or does harm."""

from __future__ import annotations

import struct
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mdns_responder import lab, message, pointer

from pytest_dispatch.beacon import dns
from pytest_dispatch.beacon.mdns import _Servers
from pytest_dispatch.beacon.urls import is_url

HEAD = struct.Struct(">6H")
ONE_ANSWER = HEAD.pack(0, 0x8400, 0, 1, 0, 0)

labels = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1).filter(
    lambda label: len(label.encode()) < 40
)


def wire(name: str) -> bytes:
    parts = [part.encode() for part in name.split(".")]
    return b"".join(bytes([len(part)]) + part for part in parts).lower()


SERVICE = wire("_dispatch._tcp.local.")


@given(labels, st.integers(1, 65535), st.lists(st.ip_addresses(), max_size=5, unique=True))
def test_what_another_implementation_writes_is_read(name: str, port: int, addresses: list[Any]) -> None:
    """With its names compressed."""
    records = dns.records(message(*lab(name, port, *map(str, addresses))))
    instance, host = wire(name) + SERVICE, wire(name) + wire("local.")
    assert records[:3] == [
        dns.Record(SERVICE, dns.PTR, records[0].data, instance),
        dns.Record(instance, dns.SRV, records[1].data, host),
        dns.Record(instance, dns.TXT, b"\x0apath=/boot", b""),
    ]
    assert records[1].data[:6] == struct.pack(">3H", 0, 0, port)
    told = [(record.name, record.kind, record.data) for record in records[3:]]
    assert told == [(host, dns.A if each.version == 4 else dns.AAAA, each.packed) for each in addresses]


@given(st.binary(max_size=dns.LONGEST))
def test_any_bytes_are_a_message_or_not(data: bytes) -> None:
    for start in (b"", ONE_ANSWER, HEAD.pack(0, 0x8400, 65535, 65535, 65535, 65535)):
        assert_read_or_refused(start + data)


@given(st.data())
def test_a_message_that_was_changed_on_its_way_is_one_or_not(data: st.DataObject) -> None:
    changed = bytearray(message(*lab("dispatch-1a2b", 8080, "10.0.0.1", "fd00::1")))
    for _ in range(data.draw(st.integers(1, 5))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    assert_read_or_refused(bytes(changed[: data.draw(st.integers(0, len(changed)))]))


@given(st.data())
def test_whatever_a_message_says_only_urls_come_of_it(data: st.DataObject) -> None:
    changed = bytearray(message(*lab("dispatch-1a2b", 8080, "10.0.0.1", "fe80::1", path=b"path=/a?b=%20c")))
    for _ in range(data.draw(st.integers(0, 5))):
        changed[data.draw(st.integers(12, len(changed) - 1))] = data.draw(st.integers(0, 255))
    servers = _Servers(everywhere=True)
    urls = servers.urls_after(bytes(changed), 1)
    assert all(is_url(url) and url.isascii() and url.isprintable() and " " not in url for url in urls)
    assert servers.urls_after(bytes(changed), 1) == [], "each is told once"
    assert servers.questions(), "of what is missing, or who else is there"


def assert_read_or_refused(data: bytes) -> None:
    try:
        records = dns.records(data)
    except ValueError:
        return
    assert all(len(record.name) <= 255 and len(record.target) <= 255 for record in records)
    assert sum(len(record.data) for record in records) <= len(data)
    for record in records:
        assert sum(map(len, dns.texts(record.data).values())) <= len(record.data)


def test_a_message_that_is_cut_anywhere_is_refused() -> None:
    whole = message(*lab("dispatch-1a2b", 8080, "10.0.0.1"))
    for end in range(len(whole)):
        with pytest.raises(ValueError, match="DNS"):
            dns.records(whole[:end])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"\xc0\x0c", "broken pointer"),  # to itself
        (b"\1a\xc0\x0c", "broken pointer"),  # round in a circle
        (b"\xc0\x40", "broken pointer"),  # forward
        (b"\xff\xff", "broken pointer"),  # beyond its end
        (b"\x40a", "broken pointer"),  # RFC 1035 has no such kind of label
        (b"\x80a", "broken pointer"),
        (b"\x3fa\0", "too long|cut short"),
        (b"\x3f" * 64 * 5, "too long"),
        (b"\1a" * 127 + b"\1a\0", "too long"),
        (b"", "cut short"),
    ],
)
def test_a_name_that_is_none_is_refused(name: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dns.records(ONE_ANSWER + name)


def test_a_name_may_be_of_255_bytes_and_no_more() -> None:
    longest = b"\1a" * 125 + b"\3bbb\0"
    record = struct.pack(">2HIH", dns.TXT, 1, 1, 0)
    assert [each.name for each in dns.records(ONE_ANSWER + longest + record)] == [longest]
    with pytest.raises(ValueError, match="too long"):
        dns.records(ONE_ANSWER + b"\1a" + longest + record)


def test_a_pointer_to_a_pointer_is_followed_so_far_and_no_further() -> None:
    def chained(pointers: int) -> bytes:
        """A record whose data are pointers, to its name and each to the one before, and one named by the last."""
        at = HEAD.size + 3 + 10
        chain = b"".join(struct.pack(">H", 0xC000 + (at + 2 * n - 2 if n else HEAD.size)) for n in range(pointers))
        first = b"\1a\0" + struct.pack(">2HIH", dns.TXT, 1, 1, len(chain)) + chain
        last = struct.pack(">H", 0xC000 + at + 2 * pointers - 2) + struct.pack(">2HIH", dns.TXT, 1, 1, 0)
        return HEAD.pack(0, 0x8400, 0, 2, 0, 0) + first + last

    assert dns.records(chained(20))[1].name == b"\1a\0"
    with pytest.raises(ValueError, match="too many pointers"):
        dns.records(chained(40))


def test_a_name_that_goes_on_elsewhere_than_its_record_is_refused() -> None:
    whole = message(pointer("x"))
    longer = whole.replace(struct.pack(">IH", 120, 4), struct.pack(">IH", 120, 3))
    assert longer != whole
    with pytest.raises(ValueError, match="ends elsewhere"):
        dns.records(longer)


@pytest.mark.parametrize("flags", [0x0000, 0x8403, 0x8800])
def test_a_question_and_a_refusal_answer_nothing(flags: int) -> None:
    told = bytearray(message(pointer("x")))
    told[2:4] = struct.pack(">H", flags)
    assert dns.records(bytes(told)) == []


def test_the_message_that_takes_longest_to_read_is_read_in_bounded_steps() -> None:
    longest = b"\1a" * 126 + b"\0"
    record = b"\xc0\x0c" + struct.pack(">2HIH", dns.PTR, 1, 1, 2) + b"\xc0\x0c"
    room = dns.LONGEST - HEAD.size - len(longest) - 4
    whole = HEAD.pack(0, 0x8400, 1, room // len(record), 0, 0) + longest + bytes(4) + room // len(record) * record
    steps = 0

    def count(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        found = dns.records(whole)
    finally:
        sys.settrace(before)
    assert {each.target for each in found} == {longest}
    assert steps < 1_000_000


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", {}),
        (b"\0", {}),
        (b"\6path=x", {b"path": b"x"}),
        (b"\4PATH", {b"path": b""}),
        (b"\6path=x\6path=y", {b"path": b"x"}),
        (b"\xffpath=x", {b"path": b"x"}),
        (b"\5a=b=c", {b"a": b"b=c"}),
    ],
)
def test_texts_are_keys_and_values(data: bytes, found: dict[bytes, bytes]) -> None:
    assert {key: value for key, value in dns.texts(data).items() if key} == found
