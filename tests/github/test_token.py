"""Tokens: where they are found, and that they do not show."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.secrets import gh_host, ways_to_sign_in, without_secrets
from pytest_dispatch.github.token_lookup import Token, find_token

SECRET = "ghp_Zm9vYmFy"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with an empty folder for programs, and the system's behind it."""
    (tmp_path / "bin").mkdir()
    return {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}


def install_gh(environ: dict[str, str], script: str) -> None:
    """A `gh` that does what the script says."""
    program = Path(environ["PATH"].partition(":")[0]) / "gh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_the_option_comes_first(environ: dict[str, str]) -> None:
    environ |= {"GITHUB_TOKEN": "second", "GH_TOKEN": "third"}
    found = find_token(SECRET, environ)
    assert found is not None
    assert (found.reveal(), found.source) == (SECRET, "--dispatch-token")


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ({"GITHUB_TOKEN": SECRET, "GH_TOKEN": "third"}, "GITHUB_TOKEN"),
        ({"GH_TOKEN": SECRET}, "GH_TOKEN"),
        ({"GITHUB_TOKEN": " ", "GH_TOKEN": f"{SECRET}\n"}, "GH_TOKEN"),
    ],
)
def test_then_the_environment(environ: dict[str, str], given: dict[str, str], source: str) -> None:
    install_gh(environ, "echo fourth")
    found = find_token(None, environ | given)
    assert found is not None
    assert (found.reveal(), found.source) == (SECRET, source)


SERVER = "https://ghe.example.com/api/v3"


@pytest.mark.parametrize(
    ("api_url", "given", "source"),
    [
        (SERVER, {"GH_ENTERPRISE_TOKEN": SECRET, "GITHUB_ENTERPRISE_TOKEN": "second"}, "GH_ENTERPRISE_TOKEN"),
        (
            SERVER,
            {"GITHUB_ENTERPRISE_TOKEN": SECRET, "GITHUB_TOKEN": "no", "GH_TOKEN": "no"},
            "GITHUB_ENTERPRISE_TOKEN",
        ),
        (SERVER, {"GITHUB_TOKEN": "of github.com", "GH_TOKEN": "of github.com"}, None),
        (SERVER, {"GITHUB_TOKEN": "x", "GITHUB_API_URL": "https://api.github.com"}, None),
        (SERVER, {"GITHUB_TOKEN": "x", "GITHUB_API_URL": "https://ghe.example.com:8443/api/v3"}, None),
        (SERVER, {"GITHUB_TOKEN": "x", "GITHUB_API_URL": "https://ghe.example.com.evil.example/api/v3"}, None),
        (SERVER, {"GITHUB_TOKEN": SECRET, "GITHUB_API_URL": "https://GHE.example.com:443/api/v3/"}, "GITHUB_TOKEN"),
        (SERVER, {"GH_TOKEN": "of github.com", "GITHUB_API_URL": SERVER}, None),
        ("https://github.com.evil.example", {"GITHUB_TOKEN": "x", "GH_TOKEN": "x"}, None),
        ("https://evilghe.com", {"GITHUB_TOKEN": "x", "GH_TOKEN": "x"}, None),
        ("https://api.octocorp.ghe.com", {"GITHUB_TOKEN": SECRET, "GH_ENTERPRISE_TOKEN": "no"}, "GITHUB_TOKEN"),
        ("https://api.github.com", {"GH_ENTERPRISE_TOKEN": "no", "GITHUB_ENTERPRISE_TOKEN": "no"}, None),
    ],
)
def test_a_token_of_one_server_is_not_for_another(
    environ: dict[str, str], api_url: str, given: dict[str, str], source: str | None
) -> None:
    install_gh(environ, "exit 1")
    found = find_token(None, environ | given, api_url)
    assert (found and (found.source, found.reveal(), found.api_url)) == (source and (source, SECRET, api_url))


def test_where_a_token_goes_is_said_for_each_server() -> None:
    assert ways_to_sign_in("https://api.github.com") == "--dispatch-token, GITHUB_TOKEN or `gh auth login`"
    assert ways_to_sign_in("https://api.octocorp.ghe.com") == "--dispatch-token, GITHUB_TOKEN or `gh auth login`"
    assert ways_to_sign_in(SERVER) == (
        "--dispatch-token, GH_ENTERPRISE_TOKEN or `gh auth login --hostname ghe.example.com`; GITHUB_TOKEN is for "
        "github.com, unless GITHUB_API_URL names this server"
    )


def test_then_gh_is_asked_for_the_host_of_the_api(environ: dict[str, str]) -> None:
    install_gh(environ, f'[ "$*" = "auth token --hostname ghe.example.com" ] && echo {SECRET}')
    found = find_token("", environ, "https://ghe.example.com/api/v3")
    assert found is not None
    assert (found.reveal(), found.source) == (SECRET, "gh auth token")
    assert found.api_url == "https://ghe.example.com/api/v3"
    assert find_token("", environ) is None


@pytest.mark.parametrize("script", ["echo nope; exit 1", "echo", "kill -9 $$"])
def test_a_gh_that_is_not_signed_in_is_no_error(environ: dict[str, str], script: str) -> None:
    install_gh(environ, script)
    assert find_token(None, environ) is None


def test_without_gh_there_is_no_token(environ: dict[str, str]) -> None:
    assert find_token(None, environ | {"PATH": environ["PATH"].partition(":")[0]}) is None


def test_a_gh_that_cannot_be_run_is_no_error(environ: dict[str, str]) -> None:
    install_gh(environ, "")
    program = Path(environ["PATH"].partition(":")[0]) / "gh"
    program.write_text("#!/no/such/interpreter\n")
    assert find_token(None, environ) is None


def test_a_gh_that_hangs_is_given_up(environ: dict[str, str]) -> None:
    install_gh(environ, f"exec sleep 600; echo {SECRET}")
    assert find_token(None, environ, patience=0.05) is None


@pytest.mark.parametrize(
    ("api_url", "host"),
    [
        ("https://api.github.com", "github.com"),
        ("https://ghe.example.com/api/v3", "ghe.example.com"),
        ("https://api.octocorp.ghe.com", "octocorp.ghe.com"),
        ("https://api.example.com", "api.example.com"),
        ("http://127.0.0.1:8080", "127.0.0.1"),
    ],
)
def test_the_host_as_gh_names_it(api_url: str, host: str) -> None:
    assert gh_host(api_url) == host


def test_a_token_shows_its_source_and_never_itself() -> None:
    token = Token(SECRET, "GH_TOKEN")
    shown = [repr(token), str(token), f"{token}", f"{token!s:>40}", repr([token]), repr({"token": token})]
    assert not any(SECRET in text for text in shown)
    assert str(token) == "<Token from GH_TOKEN>"
    assert not hasattr(token, "__dict__")


def test_a_token_cannot_be_pickled_and_is_not_doubled() -> None:
    token = Token(SECRET, "GH_TOKEN")
    with pytest.raises(TypeError, match="not to be pickled"):
        pickle.dumps(token)
    assert copy.copy(token) is token
    assert copy.deepcopy([token])[0] is token


def test_programs_get_an_environment_without_secrets() -> None:
    secret = ("GITHUB_TOKEN", "GH_ENTERPRISE_TOKEN", "PYTEST_ADDOPTS", "PGPASSWORD", "Aws_Secret_Key", "SOME_API_KEY")
    environ = {"PATH": "/bin", "HOME": "/root", "LANG": "C", "TMPDIR": "/tmp", "DISPATCH_OVMF_CODE": "x"}
    assert without_secrets(environ | dict.fromkeys(secret, SECRET)) == environ
    in_urls = {
        "HTTPS_PROXY": f"me:{SECRET}@proxy",
        "all_proxy": f"http://me:{SECRET}@proxy",
        "DB": f"pg://me:{SECRET}@db",
    }
    assert without_secrets(environ | in_urls) == environ


def test_words_from_elsewhere_are_scrubbed() -> None:
    assert Token(SECRET, "x").scrub(f"header {SECRET}!") == "header ***!"


@pytest.mark.parametrize("value", ["", "  ", "two words", "line\nbreak", "umläut", "nul\0", "tab\tx"])
def test_what_cannot_be_a_token_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Token(value, "GITHUB_TOKEN")
    assert str(caught.value).startswith("the token from GITHUB_TOKEN is invalid: expected letters")
    assert not value.strip() or value not in str(caught.value)


def test_gh_gets_the_environment_it_is_given(environ: dict[str, str]) -> None:
    install_gh(environ, 'echo "$GH_ENTERPRISE_TOKEN"')
    found = find_token(None, environ | {"GH_ENTERPRISE_TOKEN": SECRET}, "https://api.github.com")
    assert found is not None
    assert found.reveal() == SECRET
    assert "GH_ENTERPRISE_TOKEN" not in os.environ
