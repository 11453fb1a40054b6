"""Requirements: read, held against labels, and told where nothing fulfils them."""

from __future__ import annotations

import re

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.requirements import MOST, nearest_miss, read_labels, read_requirements, suits, unmet

EPYC = {"arch": "x86_64", "memory": "64", "site": "fra", "gpu": ""}


@pytest.mark.parametrize(
    ("text", "fulfilled"),
    [
        ("arch=x86_64", True),
        ("arch = x86_64", True),
        ("arch=aarch64", False),
        ("site in (fra, ams)", True),
        ("site in (ams)", False),
        ("memory>=64", True),
        ("memory >= 64.5", False),
        ("arch>=1", False),  # no number
        ("gpu>=1", False),  # no value
        ("cores>=1", False),  # no label
        ("gpu", True),
        ("tpu", False),
        ("!tpu", True),
        ("!gpu", False),
        ("! gpu", False),
        ("example.com/rack=r1", False),
    ],
)
def test_a_requirement_against_labels(text: str, fulfilled: bool) -> None:
    assert suits(read_requirements([text], "here"), EPYC) is fulfilled


def test_the_same_requirements_are_equal_however_they_are_written() -> None:
    one = read_requirements(["gpu", "site in (fra,ams)", "memory>=64"], "here")
    other = read_requirements(["memory >= 64", "site  in ( ams , fra )", "gpu", "gpu"], "there")
    assert one == other
    assert [str(each) for each in one] == ["gpu", "memory>=64", "site in (ams, fra)"]
    assert read_requirements(map(str, one), "again") == one


@pytest.mark.parametrize(
    "text", ["", "=x", "a=", "a==b", "a>b", "a in ()", "a in b", "!a=b", "a>=x", "a>=-1", "ä", "a b", "a>=1e3"]
)
def test_what_is_no_requirement(text: str) -> None:
    forms = "key=value, key in (a, b), key>=number, key, !key"
    expected = f"dispatch.toml: requires: expected a requirement such as {forms}, got {text!r}"
    with pytest.raises(ConfigError, match=re.escape(expected)):
        read_requirements([text], "dispatch.toml: requires")


def test_too_many_requirements() -> None:
    with pytest.raises(ConfigError, match=f"here: expected at most {MOST} requirements, got {MOST + 1}"):
        read_requirements([f"label{number}" for number in range(MOST + 1)], "here")


def test_labels_are_read() -> None:
    assert read_labels(["arch=x86_64", "gpu", " gpu ", "kernel=6.1"], "here") == {
        "arch": "x86_64",
        "gpu": "",
        "kernel": "6.1",
    }


@pytest.mark.parametrize("text", ["", "=x", "a b", "a=b=c", "a>=1", "!a"])
def test_what_is_no_label(text: str) -> None:
    expected = f"lab.yaml: expected a label such as arch=x86_64 or gpu, got {text!r}"
    with pytest.raises(ConfigError, match=re.escape(expected)):
        read_labels([text], "lab.yaml")


def test_a_label_with_two_values() -> None:
    with pytest.raises(ConfigError, match="here: expected one value of the label arch, got 'x86_64' and 'aarch64'"):
        read_labels(["arch=x86_64", "arch=aarch64"], "here")


def test_the_nearest_miss() -> None:
    wanted = read_requirements(["arch=x86_64", "memory>=128", "!gpu", "tpu"], "here")
    machines = {"epyc-2": EPYC, "epyc-1": {**EPYC, "tpu": ""}, "rpi": {"arch": "aarch64"}}
    assert [str(each) for each in unmet(wanted, EPYC)] == ["!gpu", "memory>=128", "tpu"]
    assert (
        nearest_miss(wanted, machines)
        == "the nearest is epyc-1: it has gpu, wanted is !gpu, it has memory=64, wanted is memory>=128"
    )
    assert nearest_miss(wanted, {"rpi": {}}) == (
        "the nearest is rpi: it has no label arch, it has no label memory, it has no label tpu"
    )
    assert nearest_miss(wanted, {}) == "there is no machine"
