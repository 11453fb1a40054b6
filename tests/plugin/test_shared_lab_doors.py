"""A lab that others use too, with a certificate or behind a proxy that has one, as its configuration says."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx
import pytest
import trustme
from plugin_bench import WITHOUT, Bench, clean
from reverse_proxies import FROM, reverse_proxy
from services import FILE, Service, serving

MACHINES = "{id: m1, driver: 'sim?pace=0.001'}, {id: m2, driver: 'sim?pace=0.001'}"
SCENARIOS = {"a": "pass", "b": "fail"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    """Who signs certificates, and the file by which it is trusted."""
    made, file = trustme.CA(), tmp_path_factory.mktemp("authority") / "ca.pem"
    made.cert_pem.write_to_path(file)
    return made, file


def session(bench: Bench, service: Service, url: str, trusted: Path | None) -> pytest.RunResult:
    """Run a session with the lab at a URL."""
    environ = {**os.environ, "DISPATCH_TOKEN": service.token}
    environ.pop("SSL_CERT_FILE", None)
    if trusted is not None:
        environ["SSL_CERT_FILE"] = str(trusted)
    return clean(bench.fork("--dispatch-dir=w", f"--dispatch-lab={url}", *WITHOUT, environ=environ))


def file(folder: Path, server: str) -> None:
    folder.mkdir()
    text = FILE.format(log="text", machines=MACHINES).replace("announce: false", f"announce: false, {server}")
    (folder / "lab.yaml").write_text(text)


def test_a_lab_with_a_certificate(bench: Bench, tmp_path: Path, authority: tuple[trustme.CA, Path]) -> None:
    bench.workloads(SCENARIOS)
    signer, trusted = authority
    folder = tmp_path / "lab"
    file(folder, "public_url: 'https://127.0.0.1', tls: {certificate: lab.pem, key: lab.key}")
    made = signer.issue_cert("127.0.0.1")
    made.cert_chain_pems[0].write_to_path(folder / "lab.pem")
    made.private_key_pem.write_to_path(folder / "lab.key")
    with serving(folder, "--config=lab.yaml") as service:
        assert service.api.startswith("https://")
        session(bench, service, service.api, trusted).assert_outcomes(passed=1, failed=2)  # the item, and its case
        distrusting = session(bench, service, service.api, None)
        assert distrusting.ret == pytest.ExitCode.USAGE_ERROR
        assert "certificate" in "\n".join([*distrusting.outlines, *distrusting.errlines])
        link = service.said[3]
        assert link.startswith("dispatch: sign in once as an administrator: https://127.0.0.1/api/v1/sign-in/link?")


def test_a_lab_behind_a_proxy(bench: Bench, tmp_path: Path, authority: tuple[trustme.CA, Path]) -> None:
    bench.workloads(SCENARIOS)
    signer, trusted = authority
    folder = tmp_path / "lab"
    file(folder, f"trusted_proxies: [{FROM}/32]")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    signer.issue_cert("127.0.0.1").configure_cert(tls)
    with serving(folder, "--config=lab.yaml") as service, reverse_proxy(httpx.URL(service.api).port or 0, tls) as url:
        session(bench, service, url, trusted).assert_outcomes(passed=1, failed=2)  # the item, and its case
        told = httpx.get(f"{service.api}/api/v1/audit", headers=service.bearer()).json()
        assert {entry["address"] for entry in told if entry["action"].startswith("session")} == {"127.0.0.1"}
        context = ssl.create_default_context(cafile=str(trusted))
        answer = httpx.get(f"{url}/api/v1/me", headers=service.bearer(), verify=context)
        assert answer.json()["name"] == "lab"
        forged = service.bearer(**{"X-Forwarded-For": "192.0.2.9", "X-Forwarded-Proto": "https"})
        token = httpx.post(f"{service.api}/api/v1/users", headers=forged, json={"name": "ada", "role": "reader"})
        assert token.status_code == 201
        [entry] = httpx.get(f"{service.api}/api/v1/audit?action=user.create", headers=service.bearer()).json()
        assert entry["address"] == "127.0.0.1"  # who is no trusted proxy cannot say otherwise
