"""The section `testflinger` of a lab file: where deployments are submitted to, and who asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.lab_program.config import TestflingerServer
from pytest_dispatch.lab_program.lab_file.lab_config import read_service

SERVER = "testflinger: {url: 'https://farm.example/', %s}"
SECRET = "s3cr3t-of-the-lab"


def server(folder: Path, text: str) -> TestflingerServer | None:
    (folder / "lab.yaml").write_text(text)
    return read_service(folder / "lab.yaml", {"KEY": SECRET})[0].testflinger


def test_a_lab_knows_its_testflinger_and_shows_no_secret(tmp_path: Path) -> None:
    found = server(tmp_path, SERVER % "client_id: lab, client_secret: '${KEY}', interval: 30s")
    assert found is not None
    assert (found.url, found.client_id, found.interval) == ("https://farm.example", "lab", 30.0)
    assert found.secret is not None
    assert found.secret.reveal() == SECRET
    assert SECRET not in repr(found)


def test_without_the_section_there_is_none(tmp_path: Path) -> None:
    assert server(tmp_path, "groups: []") is None
    anybody = server(tmp_path, SERVER % "interval: 10s")
    assert anybody is not None
    assert anybody.secret is None


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (
            SERVER % "webhook_secret: one-secret",
            "testflinger.webhook_secret: expected server.public_url with it, by which Testflinger reaches the lab, got",
        ),
        (SERVER % "client_id: lab", "testflinger: expected client_id and client_secret or neither, got one"),
        ("testflinger: {url: 'http://farm.example'}", "testflinger.url: expected an https:// address"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as error:
        server(tmp_path, text)
    assert wrong in "\n".join([str(error.value), *error.value.problems])


def test_webhooks_come_to_the_address_of_people(tmp_path: Path) -> None:
    text = SERVER % "webhook_secret: '${KEY}'" + "\nserver: {public_url: 'https://lab.example/'}"
    found = server(tmp_path, text)
    assert found is not None
    assert found.webhook_secret is not None
    assert (found.reached_at, found.webhook_secret.reveal()) == ("https://lab.example", SECRET)
    assert SECRET not in repr(found)
