"""Release assets of sessions of a shared lab: read by the lab with its own tokens, else brought by pytest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_keys import new_key, public_part
from plugin_bench import WITHOUT, Bench, clean, plays
from services import FILE, Service, serving

from pytest_dispatch.testing.github import FakeApp, FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

EFI = "application/vnd.dispatch+efi"
MACHINES = "{id: m1, driver: 'sim?pace=0.001'}, {id: m2, driver: 'sim?pace=0.001'}"
GITHUB = "github: {{api_url: '{}', apps: {{acme: {{id: 5, private_key: app.pem}}}}, tokens: {{ada: {}}}}}\n"
OF_ADA = "token-of-ada"


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeGitHub]:
    with FakeGitHub() as fake:
        yield fake


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, hub: FakeGitHub) -> Iterator[tuple[Service, FakeApp]]:
    """A service that may read what belongs to `acme` by an App, and to `ada` by a token."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "app.pem").write_bytes(new_key())
    app = hub.add_app(5, public_part(folder / "app.pem"), {"acme": 7})
    hub.tokens.add(OF_ADA)
    text = FILE.format(log="text", machines=MACHINES) + GITHUB.format(hub.url, OF_ADA)
    (folder / "lab.yaml").write_text(text)
    gone = dict.fromkeys(("GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN", "GITHUB_TOKEN"), "")
    with serving(folder, "--config=lab.yaml", **gone) as service:
        yield service, app


def publish(hub: FakeGitHub, repo: str, folder: Path, *, private: bool = True) -> None:
    """A release with two workloads that no other has."""
    assets = {}
    for name in ("a", "b"):
        file = folder / f"{repo.replace('/', '-')}-{name}.efi"
        plays(file, "pass")
        assets[file.name] = (EFI, file.read_bytes())
    hub.add_release(repo, "v1", assets, private=private)


def session(bench: Bench, service: Service, hub: FakeGitHub, repo: str, *more: str) -> tuple[pytest.RunResult, int]:
    """Run a session whose pytest has a token; returns also how many files it fetched itself."""
    environ = {**os.environ, "DISPATCH_TOKEN": service.token, "GH_ENTERPRISE_TOKEN": hub.token}
    environ["XDG_CACHE_HOME"] = str(bench.path / "own")
    where = (f"--dispatch-repo={repo}", "--dispatch-tag=v1", f"--dispatch-api-url={hub.url}")
    ran = clean(bench.fork(*where, f"--dispatch-lab={service.api}", *WITHOUT, *more, environ=environ))
    got = [each for each in (bench.path / "own").rglob("*") if each.is_file() and each.read_bytes().startswith(b"MZ")]
    return ran, len(got)


@pytest.mark.parametrize(("repo", "private"), [("acme/lab", True), ("ada/lab", True), ("all/lab", False)])
def test_what_the_lab_may_read_it_reads_itself(
    bench: Bench, shared: tuple[Service, FakeApp], hub: FakeGitHub, repo: str, private: bool
) -> None:
    publish(hub, repo, bench.path, private=private)
    service, app = shared
    ran, fetched = session(bench, service, hub, repo)
    ran.assert_outcomes(passed=2)
    assert fetched == 0
    assert len(app.given) <= 1
    if repo == "acme/lab":
        assert app.given


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "workers"])
@pytest.mark.draw(1)
def test_what_the_lab_may_not_read_pytest_brings(
    bench: Bench, shared: tuple[Service, FakeApp], hub: FakeGitHub, workers: tuple[str, ...]
) -> None:
    service, _ = shared
    repo = f"me/secret{len(workers)}"
    publish(hub, repo, bench.path)
    ran, fetched = session(bench, service, hub, repo, *workers)
    ran.assert_outcomes(passed=2)
    assert fetched == 2
    assert [hub.downloads[f"me-secret{len(workers)}-{name}.efi"] for name in ("a", "b")] == [1, 1]
    assert hub.token not in service.log.read_text()
