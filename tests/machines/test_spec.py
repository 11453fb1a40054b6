"""A `--dispatch-machine` value: what it says to the lab, to a driver, and to whoever reads a log."""

from __future__ import annotations

from pathlib import Path

import pytest
from drivers import offer_driver
from labs import plan

from pytest_dispatch.core.errors import ConfigError, MachineError
from pytest_dispatch.core.secrets import secrets_in, without_userinfo
from pytest_dispatch.lab_program.child_messages import Start, decode, encode
from pytest_dispatch.lab_program.machine_making import make_machines
from pytest_dispatch.lab_program.option_values import read_spec


def test_a_url_goes_to_its_driver_as_it_is_but_for_what_is_the_lab_s() -> None:
    spec = read_spec("bmc://root:pw@[fe80::1]:8443/redfish/v1?labels=gpu,rack=7&verify=off&address=10.0.0.7&x=1?2")
    assert spec.url == "bmc://root:pw@[fe80::1]:8443/redfish/v1?verify=off&x=1?2"
    assert (spec.scheme, spec.count) == ("bmc", 1)
    assert spec.options == (("verify", "off"), ("x", "1?2"))
    assert spec.labels == {"driver": "bmc", "gpu": "", "rack": "7"}
    assert spec.addresses == ("10.0.0.7",)
    assert spec.secrets == ("pw",)
    assert spec.text == "bmc://***@[fe80::1]:8443/redfish/v1?labels=gpu,rack=7&verify=off&address=10.0.0.7&x=1?2"


def test_what_is_no_url_has_none() -> None:
    spec = read_spec("sim:8?from=::1")
    assert (spec.url, spec.count, spec.options, spec.text) == ("", 8, (("from", "::1"),), "sim:8?from=::1")


@pytest.mark.parametrize(
    ("given", "shown", "secrets"),
    [
        ("bmc://host/1", "bmc://host/1", ()),
        ("bmc://me:pw@host", "bmc://***@host", ("pw",)),
        ("bmc://t0ken@host", "bmc://***@host", ("t0ken",)),
        ("bmc://me:@host", "bmc://***@host", ("me:",)),
        ("bmc://me:p%40w@host", "bmc://***@host", ("p%40w", "p@w")),
        ("bmc://me:p@w/x@host/1", "bmc://***@host/1", ("p@w/x",)),
        ("bmc://host?user=me&password=pw", "bmc://host?user=me&password=***", ("pw",)),
        ("outlet?command=x&Secret=a%20b", "outlet?command=x&Secret=***", ("a%20b", "a b")),
        ("sim:8?pace=0.1", "sim:8?pace=0.1", ()),
    ],
)
def test_its_secrets_are_known_and_not_shown(given: str, shown: str, secrets: tuple[str, ...]) -> None:
    assert without_userinfo(given) == shown
    assert secrets_in(given) == secrets


def test_no_secret_of_it_is_in_what_python_shows_of_it_and_all_reach_the_lab() -> None:
    start = Start(plan(Path("/x"), machines=(read_spec("bmc://me:hunter2@host?token=t0k3n&x=1"),)), "w")
    assert "hunter2" not in repr(start)
    assert "t0k3n" not in repr(start)
    assert decode(encode(start)) == start


PARTS = """
from pytest_dispatch.core.errors import ConfigError, MachineError
from pytest_dispatch.machines.base import DrivenMachine
from pytest_dispatch.machines.sim.driver import SimMachine

def create(spec, state):
    said = dict(spec.options)
    if "wrong" in said:
        raise {"config": ConfigError, "machine": MachineError, "key": KeyError}[said["wrong"]](f"no {spec.url}")
    sim = SimMachine().driven()
    lone = DrivenMachine(power=sim.power, labels={"arch": "arm64", "rack": "1"}, secrets=("own",))
    return [sim, lone, DrivenMachine(name="rack-9", console=sim.console)]
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A driver `parts` of machines that have not all."""
    offer_driver(tmp_path, "parts", "parts_driver")
    (tmp_path / "parts_driver.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_machines_have_names_labels_addresses_and_secrets(parts: Path) -> None:
    made = make_machines(read_spec("parts://me:pw@x?labels=rack=2&address=10.0.0.7,10.0.0.8"), parts)
    assert [machine.name for machine in made] == ["parts-1", "parts-2", "rack-9"]
    assert [machine.address for machine in made] == ["", "10.0.0.7", "10.0.0.8"]
    assert made[0].labels == {"driver": "parts", "rack": "2"}
    assert made[1].labels == {"driver": "parts", "arch": "arm64", "rack": "2"}
    assert [machine.secrets for machine in made] == [("pw",), ("own", "pw"), ("pw",)]
    assert "pw" not in repr(made)


@pytest.mark.parametrize("given", ["", "10.0.0.7", "10.0.0.7,10.0.0.8,10.0.0.9"])
def test_a_machine_without_boot_control_needs_an_address(parts: Path, given: str) -> None:
    count = len([each for each in given.split(",") if each])
    with pytest.raises(ConfigError) as caught:
        make_machines(read_spec(f"parts{given and f'?address={given}'}"), parts)
    assert str(caught.value).endswith(
        "expected address= with 2 of its 3 machines' addresses (those without boot control are known by them),"
        f" got {count}"
    )


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ("config", ConfigError, "no parts://me:***@x?wrong=config"),
        ("machine", MachineError, "no parts://me:***@x?wrong=machine"),
        ("key", MachineError, "KeyError: 'no parts://me:***@x?wrong=key'"),
    ],
)
def test_what_a_driver_raises_is_told_without_secrets(
    parts: Path, wrong: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error) as caught:
        make_machines(read_spec(f"parts://me:pw@x?wrong={wrong}"), parts)
    assert str(caught.value).startswith(told)
    assert type(caught.value) is error


def test_what_a_driver_raises_of_its_own_stays_as_it_is(parts: Path) -> None:
    with pytest.raises(KeyError, match="no "):
        make_machines(read_spec("parts?wrong=key"), parts)
