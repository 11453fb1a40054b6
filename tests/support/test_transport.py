"""The way to GitHub: real certificates and real proxies, for API calls and downloads alike."""

from __future__ import annotations

import logging
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from boots import boots
from fetching import EFI, bytes_of, complaint, fetch
from proxies import proxy

from pytest_dispatch.core.errors import ConfigError, SourceError
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.sources.release import list_release
from pytest_dispatch.support.transport import CERTIFICATES, Proxy, proxy_for, trusted_by
from pytest_dispatch.testing.github import FakeGitHub

REPO = "me/lab"
PASSWORD = "p/ss:w@rd"
CREDENTIALS = f"me:{PASSWORD}"
IN_URL = "me:p%2Fss%3Aw%40rd"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "127.0.0.2", "github.test", "storage.test").configure_cert(context)
    return context


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def secure(server_tls: ssl.SSLContext) -> Iterator[FakeGitHub]:
    with FakeGitHub(tls=server_tls) as fake:
        fake.add_release(REPO, "v1", {"w.efi": (EFI, bytes_of(1000))}, private=True)
        yield fake


def signed(github: FakeGitHub, url: str = "") -> Token:
    return Token(github.token, "GH_ENTERPRISE_TOKEN", url or github.url)


def listed(github: FakeGitHub, url: str = "") -> Workload:
    (workload,) = list_release(REPO, "v1", signed(github, url), url or github.url).workloads
    return workload


def refused(github: FakeGitHub, url: str = "") -> str:
    with pytest.raises(SourceError) as caught:
        listed(github, url)
    text = str(caught.value)
    assert "\n" not in text
    return text


def rehashed(bundle: Path, folder: Path) -> Path:
    """A folder of certificates as OpenSSL looks them up: by their subject's hash."""
    folder.mkdir()
    found = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", bundle], capture_output=True, text=True, check=True
    )
    shutil.copy(bundle, folder / f"{found.stdout.strip()}.0")
    return folder


@pytest.mark.anyio
@pytest.mark.parametrize(
    "variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "folder"]
)
async def test_one_variable_is_enough_for_calls_and_downloads(
    secure: FakeGitHub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    value = str(bundle)
    if variable in ("SSL_CERT_DIR", "folder"):
        value = str(rehashed(bundle, tmp_path / "certificates"))
    monkeypatch.setenv(variable if variable in CERTIFICATES else "REQUESTS_CA_BUNDLE", value)
    asset = await fetch(tmp_path, listed(secure), signed(secure))
    assert asset.path.read_bytes() == bytes_of(1000)


@pytest.mark.anyio
async def test_what_several_variables_name_is_trusted_together(
    secure: FakeGitHub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    assert (await fetch(tmp_path, listed(secure), signed(secure))).size == 1000


@pytest.mark.anyio
async def test_an_authority_that_nobody_named_is_not_trusted(
    secure: FakeGitHub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for a call nor for a download; and what is empty names nothing."""
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    workload = listed(secure)
    monkeypatch.setenv("SSL_CERT_FILE", "")
    assert f"{REPO}: 127.0.0.1 cannot be reached: its certificate is not trusted: " in refused(secure)
    assert "w.efi: 127.0.0.1: its certificate is not trusted: " in await complaint(tmp_path, workload, signed(secure))
    assert secure.requests.total() == 2


def test_a_certificate_of_another_name_is_not_trusted(
    authority: trustme.CA, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("elsewhere.test").configure_cert(context)
    with FakeGitHub(tls=context) as github:
        assert "its certificate is not trusted: " in refused(github)


def test_the_system_s_authorities_are_trusted_where_nothing_is_named() -> None:
    """And they are there, be it those of the system or those that come with httpx."""
    assert trusted_by({}).verify_mode is ssl.CERT_REQUIRED
    assert trusted_by({}).check_hostname
    locations = ssl.get_default_verify_paths()
    by_name = Path(locations.openssl_capath).is_dir() and any(Path(locations.openssl_capath).iterdir())
    assert trusted_by({}).cert_store_stats()["x509_ca"] or by_name


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("SSL_CERT_FILE", "nothing.pem", "expected certificates in PEM format, got '{}': No such file or directory"),
        ("REQUESTS_CA_BUNDLE", "empty.pem", "expected certificates in PEM format, got '{}': "),
        ("SSL_CERT_FILE", "folder", "expected certificates in PEM format, got '{}': "),
        ("SSL_CERT_DIR", "folder", "expected certificates in {}, named as `openssl rehash` does, got none"),
    ],
)
def test_a_variable_that_names_no_certificates(
    secure: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    (tmp_path / "empty.pem").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv(variable, str(tmp_path / value))
    text = refused(secure)
    assert text.startswith(f"{REPO}: 127.0.0.1 cannot be reached: {variable}: {told.format(tmp_path / value)}")
    assert not secure.requests


@pytest.mark.anyio
async def test_a_variable_that_names_no_certificates_any_more(
    secure: FakeGitHub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    workload = listed(secure)
    monkeypatch.setenv("SSL_CERT_FILE", f"{bundle}.gone")
    text = await complaint(tmp_path, workload, signed(secure))
    assert text == f"SSL_CERT_FILE: expected certificates in PEM format, got '{bundle}.gone': No such file or directory"


def beyond(github: FakeGitHub) -> str:
    """The API by a name that only a proxy can resolve."""
    return github.url.replace("127.0.0.1", "github.test")


@pytest.fixture
def hidden(secure: FakeGitHub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGitHub:
    """A GitHub that is trusted, and reached through a proxy alone, as its storage is."""
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    return secure


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("variable", "scheme"),
    [("HTTPS_PROXY", "http"), ("https_proxy", "https"), ("ALL_PROXY", "https"), ("all_proxy", "http")],
)
async def test_calls_and_downloads_go_through_one_proxy(
    request: pytest.FixtureRequest, hidden: FakeGitHub, tmp_path: Path, variable: str, scheme: str
) -> None:
    """With user and password, which no log shows; storage is redirected to, and by another name."""
    caplog: pytest.LogCaptureFixture = request.getfixturevalue("caplog")
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    caplog.set_level(logging.DEBUG)
    with proxy(CREDENTIALS, request.getfixturevalue("server_tls") if scheme == "https" else None) as through:
        monkeypatch.setenv(variable, f"{scheme}://{IN_URL}@{through.address}")
        url = beyond(hidden)
        workload = listed(hidden, url)
        asset_call = f"GET /repos/{REPO}/releases/assets/*"
        place = hidden.storage_url.replace("127.0.0.2", "storage.test")
        stored = f"{place}/storage/{workload.payload['location'].rpartition('/')[2]}/w.efi"
        hidden.fail_next(asset_call, status=302, headers={"Location": f"{stored}?sig={signature(hidden)}"})
        asset = await fetch(tmp_path, workload, signed(hidden, url))
    assert asset.path.read_bytes() == bytes_of(1000)
    assert {target.partition(":")[0] for target in through.tunnels} == {"github.test", "storage.test"}
    assert caplog.records
    for secret in (PASSWORD, IN_URL, hidden.token):
        assert secret not in caplog.text


def signature(github: FakeGitHub) -> str:
    """What storage wants to see, as a redirect of the API says it."""
    asset = github.asset(REPO, "v1", "w.efi")
    url = f"{github.url}/repos/{REPO}/releases/assets/{asset.id}"
    headers = {"Authorization": f"Bearer {github.token}", "Accept": "application/octet-stream"}
    answer = httpx.get(url, headers=headers, verify=trusted(), trust_env=False)
    return httpx.URL(answer.headers["location"]).params["sig"]


def trusted() -> ssl.SSLContext:
    """Nobody in particular: for the test's own look at the fake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.anyio
async def test_a_proxy_that_does_not_let_us_in(
    hidden: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy("me:other") as through:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{IN_URL}@{through.address}")
        told = f"through the proxy {through.address} (HTTPS_PROXY): it answered 407 Proxy Authentication Required"
        assert refused(hidden, beyond(hidden)) == f"{REPO}: github.test cannot be reached: {told}"
        location = f"{beyond(hidden)}/repos/{REPO}/releases/assets/1"
        wanted = boots("w.efi", location=location, size=2)
        assert await complaint(tmp_path, wanted) == f"w.efi: github.test: {told}"
    assert not hidden.requests


def test_a_proxy_that_is_not_there(hidden: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy() as gone:
        pass
    monkeypatch.setenv("https_proxy", f"{IN_URL}@{gone.address}")
    told = f"through the proxy {gone.address} (https_proxy): connection refused"
    assert refused(hidden, beyond(hidden)) == f"{REPO}: github.test cannot be reached: {told}"


def test_this_computer_is_asked_without_a_proxy(hidden: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """By https and by http, whatever the environment says."""
    with proxy() as through, FakeGitHub() as plain:
        for variable in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(variable, f"http://{through.address}")
        listed(hidden)
        plain.add_release(REPO, "v1", {"w.efi": (EFI, b"MZ")})
        listed(plain)
    assert through.tunnels == []


@pytest.mark.parametrize(
    "given",
    [
        "ftp://proxy.test:1",
        "http://",
        "http://proxy.test:0",
        "http://proxy.test:99999",
        "http://me:pass/word@proxy.test:3128",
        "http://me:12/word@proxy.test:3128",
        "http://me:secret",
        "http://me:sec ret@proxy.test",
        "http://me:secret\x1b@proxy.test",
        "http://[me:secret@proxy.test",
    ],
)
def test_a_proxy_that_is_none_is_refused_without_showing_it(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        proxy_for("https://api.github.com", {"HTTPS_PROXY": given})
    assert str(caught.value) == (
        "HTTPS_PROXY: expected where the proxy is, as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT with signs"
        " such as / and @ percent-encoded, got something else"
    )


def test_a_socks_proxy_says_what_it_needs() -> None:
    with pytest.raises(ConfigError) as caught:
        proxy_for("https://api.github.com", {"ALL_PROXY": "socks5://me:secret@127.0.0.1:1080"})
    text = "ALL_PROXY: a SOCKS proxy needs the package socksio; pip install 'httpx[socks]'"
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"HTTPS_PROXY": "a:1", "https_proxy": "b:1", "ALL_PROXY": "c:1"}, "https_proxy"),
        ({"HTTPS_PROXY": "a:1", "https_proxy": ""}, None),
        ({"https_proxy": "", "ALL_PROXY": "c:1"}, "ALL_PROXY"),
        ({"HTTP_PROXY": "a:1", "http_proxy": "a:1"}, None),
        ({"HTTPS_PROXY": "a:1", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "a:1", "NO_PROXY": "*", "no_proxy": ""}, "HTTPS_PROXY"),
    ],
)
def test_which_variable_counts(environ: dict[str, str], variable: str | None) -> None:
    found = proxy_for("https://api.github.com/x", environ)
    assert (found and found.variable) == variable


@pytest.mark.parametrize(
    ("host", "listed", "exempt"),
    [
        ("api.github.com", "github.com", True),
        ("api.github.com", ".github.com", True),
        ("api.github.com", "*.github.com", True),
        ("api.github.com", "other.test, GitHub.com", True),
        ("api.github.com", "other.test github.com", True),
        ("api.github.com", "hub.com", False),
        ("api.github.com", "api.github.com:443", True),
        ("api.github.com", "api.github.com:8443", False),
        ("api.github.com", "https://api.github.com", True),
        ("api.github.com", "10.0.0.0/8,,[,:x, .", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("[fd00::1]", "fd00::/8", True),
        ("[fd00::1]", "[fd00::1]", True),
    ],
)
def test_who_is_exempt(host: str, listed: str, exempt: bool) -> None:
    found = proxy_for(f"https://{host}/", {"HTTPS_PROXY": "http://proxy.test:3128", "NO_PROXY": listed})
    assert (found is None) is exempt


def test_a_proxy_shows_where_it_is_and_not_who_may_use_it() -> None:
    found = Proxy("HTTPS_PROXY", f"http://{IN_URL}@[::1]")
    assert str(found) == "the proxy [::1]:80 (HTTPS_PROXY)"
    assert "me" not in repr(found)
