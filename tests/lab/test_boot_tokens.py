"""The tokens by which machines of our own are known."""

from __future__ import annotations

import math

from pytest_dispatch.lab.boot_tokens import KEPT, SIZE, BootIdentity, BootTokens


def facts(bearer: BootIdentity | None) -> tuple[str, float] | None:
    return None if bearer is None else (bearer.machine, bearer.until)


def test_a_token_is_good_until_the_next_one() -> None:
    tokens = BootTokens()
    first, other = tokens.renew("one", 1.0), tokens.renew("two", 2.0)
    asking = tokens.bearer(first)
    assert facts(asking) == ("one", math.inf)
    second = tokens.renew("one", 3.0)
    assert facts(tokens.bearer(first)) == ("one", 3.0)
    assert facts(asking) == ("one", 3.0), "who is just asking with it learns of it"
    assert facts(tokens.bearer(second)) == ("one", math.inf)
    assert facts(tokens.bearer(other)) == ("two", math.inf)
    tokens.renew("one", 4.0)
    assert facts(tokens.bearer(first)) == ("one", 3.0)


def test_a_machine_boots_since_it_fetched_anything() -> None:
    tokens = BootTokens()
    assert tokens.present("one") is None
    for began, now in ((1.0, 1.0), (1.0, 2.0), (3.0, 3.0), (3.0, 4.0)):
        asking = tokens.bearer(tokens.renew("one", now))
        assert asking is not None
        assert asking is tokens.present("one")
        assert asking.since == began
        asking.got = ("run", 1) if now == 2.0 else None


def test_one_that_is_made_beforehand_is_good_from_when_it_is_first_asked_with() -> None:
    tokens = BootTokens()
    first = tokens.renew("one", 1.0)
    dropped, armed, other = tokens.arm("one"), tokens.arm("one"), tokens.arm("two")
    tokens.begin(first, 2.0)
    tokens.begin(dropped, 2.0)
    assert facts(tokens.bearer(first)) == ("one", math.inf), "what runs may speak until then"
    assert tokens.bearer(dropped) is None
    assert tokens.bearer(armed) is None
    tokens.begin(armed, 3.0)
    tokens.begin(armed, 4.0)
    assert facts(tokens.bearer(first)) == ("one", 3.0)
    assert tokens.bearer(armed) is tokens.present("one")
    assert tokens.present("two") is None
    tokens.renew("two", 5.0)
    tokens.begin(other, 6.0)
    assert tokens.bearer(other) is None, "it was powered off and on since"


def test_none_is_like_another_nor_short() -> None:
    tokens = BootTokens()
    made = {tokens.renew("one", 0.0) for _ in range(1000)}
    assert len(made) == 1000
    assert SIZE >= 16
    assert min(map(len, made)) >= SIZE * 8 // 6
    assert tokens.bearer("") is None


def test_those_of_long_ago_are_forgotten_for_each_machine() -> None:
    """A lab may run for weeks, and a machine that waits boots every minute."""
    tokens = BootTokens()
    quiet = [tokens.renew("quiet", float(n)) for n in range(2)]
    busy = [tokens.renew("busy", float(n)) for n in range(10_000)]
    assert len(tokens) == 2 + KEPT + 1
    assert [facts(tokens.bearer(token)) for token in quiet] == [("quiet", 1.0), ("quiet", math.inf)]
    *old, latest = busy[-KEPT - 1 :]
    assert all(tokens.bearer(token) is None for token in busy[: -KEPT - 1])
    assert all(facts(tokens.bearer(token)) == ("busy", busy.index(token) + 1.0) for token in old)
    assert facts(tokens.bearer(latest)) == ("busy", math.inf)
