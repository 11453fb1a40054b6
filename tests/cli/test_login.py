"""`dispatch login` and `dispatch logout`: a token is kept where only its user can read it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import dispatch as forked
from shared_labs import SharedLab

from pytest_dispatch.client.lab_tokens import find_lab_token, read_lab_url
from pytest_dispatch.core.errors import ConfigError


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLab]:
    with SharedLab(tmp_path_factory.mktemp("lab"), (), dict(os.environ)) as lab:
        yield lab


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where tokens are kept."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "pytest-dispatch" / "labs.json"


def dispatch(*words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return forked(Path.cwd(), *words, typed=typed)


def test_a_token_is_kept_and_dropped(lab: SharedLab, file: Path) -> None:
    url = lab.url
    said = dispatch("login", f"{url}/", typed=f"{lab.token}\n")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.endswith(f"its token is kept in {file}\n")
    assert lab.token not in said.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    found = find_lab_token(url, "", {})
    assert (found.reveal(), found.source) == (lab.token, "dispatch login")
    said = dispatch("logout", url)
    assert (said.returncode, said.stderr) == (0, "")
    assert json.loads(file.read_text()) == {}
    said = dispatch("logout", url)
    assert (said.returncode, said.stderr) == (1, f"dispatch: no token is kept for {url}: nothing to do\n")


def test_a_token_that_the_lab_refuses_is_not_kept(lab: SharedLab, file: Path) -> None:
    said = dispatch("login", lab.url, typed="another\n")
    assert (said.returncode, said.stdout) == (3, "")
    why = f"dispatch: the lab at {lab.url} does not accept the token from standard input; set DISPATCH_TOKEN, or run"
    assert said.stderr == f"{why} dispatch login {lab.url}\n"
    said = dispatch("login", lab.url, typed="\n")
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert not file.exists()


def test_a_file_that_others_may_read_is_refused(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text('{"http://lab": "hush"}')
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="expected a file that only you may read, got mode 644"):
        find_lab_token("http://lab", "", {})
    file.chmod(0o600)
    assert find_lab_token("http://lab", "", {}).reveal() == "hush"
    file.write_text("[1]")
    with pytest.raises(ConfigError, match="expected the tokens of labs, got something else"):
        find_lab_token("http://lab", "", {})


def test_an_option_goes_before_the_environment_and_both_before_the_file(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.touch(0o600)
    file.write_text('{"http://lab": "kept"}')
    environ = {"DISPATCH_TOKEN": "set"}
    assert find_lab_token("http://lab", "typed", environ).reveal() == "typed"
    assert find_lab_token("http://lab", "", environ).reveal() == "set"
    assert find_lab_token("http://lab", "", {}).reveal() == "kept"
    why = "--dispatch-lab http://other: expected a token for this lab, got none; set DISPATCH_TOKEN, or run"
    with pytest.raises(ConfigError, match=why):
        find_lab_token("http://other", "", {})


@pytest.mark.parametrize(
    ("text", "url"),
    [("http://LAB:80/", "http://lab:80"), ("https://lab.example/dispatch/", "https://lab.example/dispatch")],
)
def test_an_address_is_simplified(text: str, url: str) -> None:
    assert read_lab_url(text) == url


@pytest.mark.parametrize("text", ["", "lab", "ftp://lab", "http://", "http://lab:x", "http://lab?a=b", "http://a@lab"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a lab's address such as"):
        read_lab_url(text)
