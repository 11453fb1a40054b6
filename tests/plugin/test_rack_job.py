"""The file with the Testflinger job of a rack's machines: what is wrong with it is told by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.plugin.rack_job import read_job

NOBLE = "provision_data: {distro: noble}\n"


def test_a_job_is_in_the_queue_of_its_machine_unless_it_names_another(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(f"{NOBLE}test_data: {{test_cmds: 'ssh {{machine}}'}}\nreserve_data:\n")
    data = {"provision_data": {"distro": "noble"}, "test_data": {"test_cmds": "ssh {machine}"}, "reserve_data": None}
    assert read_job(file) == {"job_queue": "{machine}", **data}
    file.write_text(f"{NOBLE}job_queue: 'large-{{machine}}'\n")
    assert read_job(file)["job_queue"] == "large-{machine}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tags: [{machine}]\n", "2:8: tags.0: expected '{machine}' in quotes: without, YAML takes it for a mapping"),
        ("name: {machine}-x\n", "but found '<scalar>'; write a text with {machine} in quotes"),
        ("tags: [b\n", "3:1: expected YAML, got a mistake in it: expected ',' or ']', but got '<stream end>'"),
        ("{a: 1}: 1\n", "2:1: a mapping: expected a text as key, got a mapping: write it in quotes"),
        ("name: 2026-01-01\n", "2:7: name: expected a text or a number, got 2026-01-01: write it in quotes"),
        ("tags: noble\n", "2:7: tags: expected a list of texts, got 'noble'"),
        ("tags: [a, 1]\n", "2:11: tags.1: expected a text, got 1"),
        ("reserve_data: {timeout: 1h}\n", "2:25: reserve_data.timeout: expected a whole number, got '1h'"),
        ("test_data:\n  test_cmds: [a]\n", "3:14: test_data.test_cmds: expected a text, got a list"),
        ("test-data: {}\n", "2:1: test-data: expected a key of a Testflinger job: did you mean test_data?"),
        (
            "job_queue: foo\n",
            "2:12: job_queue: expected a queue of each machine's own, with '{machine}' in it, got 'foo'; leave it out",
        ),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "job.yaml").write_text(NOBLE + text)
    with pytest.raises(ConfigError) as error:
        read_job(tmp_path / "job.yaml")
    said = str(error.value)
    assert said.startswith(f"--dispatch-rack-job: {tmp_path}/job.yaml:")
    assert told in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ":1:1: expected a Testflinger job as a mapping, got nothing"),
        ("name: a\n", ":1:1: provision_data: expected what is to be deployed, such as distro: noble, got nothing"),
        ("provision_data: noble\n", ":1:17: provision_data: expected a mapping, got 'noble'"),
        ("provision_data: {distro: {machine}}\n", ":1:26: provision_data.distro: expected '{machine}' in quotes"),
    ],
)
def test_what_is_no_job_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_job(tmp_path / "job.yaml")
    assert str(error.value).startswith(f"--dispatch-rack-job: {tmp_path}/job.yaml{told}")


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"name: \xff")
    for name, why in (("job.yaml", "it is not UTF-8 at byte 6"), ("none", "No such file or directory"), (".", "Is a ")):
        with pytest.raises(ConfigError) as error:
            read_job(tmp_path / name)
        assert f"expected a Testflinger job in YAML, got {tmp_path / name}: {why}" in str(error.value)
