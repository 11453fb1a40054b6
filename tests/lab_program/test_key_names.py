"""Errors of a service with a file name the key that they are about, and where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_dispatch.core.errors import ConfigError, DispatchError, JournalError, LabError
from pytest_dispatch.lab_program.lab_file.lab_config import read_service

TEXT = """\
server:
  boot: 127.0.0.1:8080
database: {url: "${HOME_OF_IT}/lab.db"}
sources:
  cache: assets
"""
SECRET = "s3cr3t-place"


def by_key(folder: Path, error: DispatchError, text: str = TEXT) -> DispatchError:
    (folder / "lab.yaml").write_text(text)
    return read_service(folder / "lab.yaml", {"HOME_OF_IT": SECRET})[1].by_key(error)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "cannot listen on 127.0.0.1:8080: taken; another port with --dispatch-bind 127.0.0.1:PORT",
            "2:9: server.boot: cannot listen on 127.0.0.1:8080: taken; another port with server.boot 127.0.0.1:PORT",
        ),
        ("in use; see --dispatch-db or --db", "3:17: database.url: in use; see database.url"),
        ("--dispatch-cache: expected a folder", "5:10: sources.cache: expected a folder"),
        ("it is above dispatch_cache_limit", "5:3: sources.cache_limit: it is above sources.cache_limit"),
        ("--api: expected another port", "2:3: server.api: expected another port"),
        ("server.tls: expected a certificate", "2:3: server.tls: expected a certificate"),
        ("machines: rack-1: driver: expected one", "1:1: machines: rack-1: driver: expected one"),
    ],
)
def test_an_error_names_the_key_and_where_it_or_its_section_stands(tmp_path: Path, said: str, told: str) -> None:
    assert str(by_key(tmp_path, LabError(said))) == f"{tmp_path / 'lab.yaml'}:{told}"


@pytest.mark.parametrize("said", ["--token-file: expected a file", "the disk is full: 0 bytes", "--bind-it: no"])
def test_what_is_about_no_key_stays_as_it_is(tmp_path: Path, said: str) -> None:
    error = JournalError(said)
    assert by_key(tmp_path, error) is error


def test_an_error_of_the_file_stays_one_of_wrong_usage(tmp_path: Path) -> None:
    found = by_key(tmp_path, ConfigError("--api: expected another port"))
    assert isinstance(found, ConfigError)
    assert found.problems == (str(found),)


def test_a_configuration_shows_no_secret_by_what_names_its_keys(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(TEXT)
    config, service = read_service(tmp_path / "lab.yaml", {"HOME_OF_IT": SECRET})
    assert SECRET in config.db
    assert SECRET not in repr(service) + repr(config)
