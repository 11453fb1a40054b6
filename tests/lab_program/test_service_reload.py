"""What of a service's configuration counts after a reload, and what after a restart alone."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import httpx
import pytest
from receivers import receiving
from services import Service, configured, seen

from pytest_dispatch.lab_program.lab_file.lab_config import read_service
from pytest_dispatch.lab_program.service_reload import AT_ONCE

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

ADA = "{name: ada, password: 'correct horse battery', role: operator}"
BOB = "{name: bob, password: 'a stapler of mine', role: reader}"


def rewrite(folder: Path, more: str, **servers: str) -> None:
    """Write the file anew, with other sections at its end."""
    file = folder / "lab.yaml"
    kept = file.read_text().partition("auth:")[0]
    for before, after in servers.items():
        kept = kept.replace(before, after)
    file.write_text(kept + more)


def reloaded(service: Service, status: int = 200) -> Any:
    answer = httpx.post(f"{service.api}/api/v1/reload", headers=service.bearer(), timeout=60)
    assert answer.status_code == status, answer.text
    return answer.json()


def sign_in(service: Service, name: str, password: str) -> int:
    body = {"name": name, "password": password}
    return httpx.post(f"{service.api}/api/v1/sign-in", json=body, timeout=60).status_code


def test_each_key_that_counts_at_once_is_a_key(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("{}")
    _, service = read_service(tmp_path / "lab.yaml", {})
    assert service.keys.keys() > AT_ONCE
    assert "server.api" in service.keys.keys() - AT_ONCE


def test_users_come_and_go_with_a_reload(tmp_path: Path) -> None:
    with configured(tmp_path, more=f"auth: {{users: [{ADA}]}}\n") as service:
        assert sign_in(service, "ada", "correct horse battery") == 200
        rewrite(tmp_path, f"auth: {{users: [{BOB}], session_ttl: 2h}}\n")
        assert reloaded(service)["keys"] == ["auth.session_ttl", "auth.users"]
        assert sign_in(service, "ada", "correct horse battery") == 401
        assert sign_in(service, "bob", "a stapler of mine") == 200
        assert reloaded(service)["keys"] == []
        rewrite(tmp_path, f"auth: {{users: [{BOB}, {ADA.replace('ada', 'lab')}]}}\nretention: {{runs: 7d}}\n")
        said = reloaded(service, 400)["error"]
        assert "expected another name than 'lab'" in said
        assert reloaded(service, 400)["error"] == said  # nothing of it counts
        assert sign_in(service, "bob", "a stapler of mine") == 200


def test_who_is_told_changes_with_a_reload(tmp_path: Path) -> None:
    target = "auth: {}\nnotifications: {targets: [{name: ops, url: '%s', kinds: [machine.held]}]}\n"
    with (
        receiving() as one,
        receiving() as other,
        configured(tmp_path, machines="{id: rack-1}", more=target % one.url("Secret77")) as service,
    ):
        at = f"{service.api}/api/v1/machines/rack-1/hold"
        assert httpx.post(at, headers=service.bearer(), json={"reason": "first"}).status_code == 200
        seen(lambda: len(one.messages) == 1)
        rewrite(tmp_path, target % other.url("Secret78"))
        assert reloaded(service)["keys"] == ["notifications.targets"]
        assert httpx.post(at, headers=service.bearer(), json={"reason": "second"}).status_code == 200
        seen(lambda: len(other.messages) == 1)
        assert len(one.messages) == 1
        assert "Secret78" not in service.log.read_text()


def test_what_needs_a_restart_is_named_until_there_was_one(tmp_path: Path) -> None:
    with configured(tmp_path, more="auth: {}\n") as service:
        rewrite(tmp_path, "auth: {}\nretention: {runs: 7d}\n", announce="insecure: true, announce")
        for keys in (["retention.runs"], []):
            answer = reloaded(service)
            assert (answer["keys"], answer["restart"]) == (keys, ["server.insecure"])
        log = "reloaded by the API: machines: as before; groups: as before; templates: as before;"
        seen(lambda: service.logs(f"{log} changed: retention.runs; after a restart: server.insecure"))
        [last, first] = httpx.get(
            f"{service.api}/api/v1/audit", headers=service.bearer(), params={"action": "lab.reload"}
        ).json()
        assert first["after"] == {"keys": ["retention.runs"], "restart": ["server.insecure"]}
        assert last["after"] == {"restart": ["server.insecure"]}


def test_another_github_needs_a_restart_with_all_that_is_of_it(tmp_path: Path) -> None:
    tokens = "auth: {}\ngithub: {api_url: 'https://github.example/api/v3', tokens: {o: a-token-of-mine}}\n"
    with configured(tmp_path, more="auth: {}\n") as service:
        rewrite(tmp_path, tokens)
        answer = reloaded(service)
        assert (answer["keys"], answer["restart"]) == ([], ["github.api_url", "github.tokens"])


def test_how_the_lab_hears_of_testflinger_changes_with_a_reload(tmp_path: Path) -> None:
    there = "auth: {}\ntestflinger: {url: 'http://127.0.0.1:9', interval: %s, webhook_secret: %s}\n"

    def hooked(secret: str) -> int:
        proof = hmac.new(secret.encode(), b"a.1", hashlib.sha256).hexdigest()[:32]
        return httpx.put(f"{service.api}/api/v1/testflinger/webhooks/a.1-{proof}", content=b"{}").status_code

    reached = "text, public_url: 'https://lab.example'"
    with configured(tmp_path, log=reached, more=there % ("1s", "one-secret")) as service:
        assert (hooked("one-secret"), hooked("another-secret")) == (204, 404)
        rewrite(tmp_path, there % ("2s", "another-secret"))
        assert reloaded(service)["keys"] == ["testflinger.interval", "testflinger.webhook_secret"]
        assert (hooked("one-secret"), hooked("another-secret")) == (404, 204)
        rewrite(tmp_path, (there % ("3s", "another-secret")).replace(":9'", ":10', client_id: a, client_secret: b"))
        answer = reloaded(service)
        restart = [f"testflinger.{key}" for key in ("client_id", "client_secret", "interval", "url")]
        assert (answer["keys"], answer["restart"]) == ([], restart)
        assert "another-secret" not in service.log.read_text()


def asked(service: Service, method: str, path: str, body: object = None) -> Any:
    answer = httpx.request(method, f"{service.api}/api/v1{path}", json=body, headers=service.bearer(), timeout=60)
    assert answer.is_success, (method, path, answer.text)
    return answer.json()


def test_rules_of_health_change_with_a_reload(tmp_path: Path) -> None:
    """One fault holds a machine of a lab that was started with the rule that none does."""
    (tmp_path / "memory.efi").write_bytes(b"M" * 100)
    payload = "payload: {media: efi, location: 'folder:kept/memory.efi', size: 100}"
    template = f"{{id: memory, kind: boot, {payload}}}"
    more = f"auth: {{}}\ngroups: [{{id: racks, templates: [{template}]}}]\nhealth: {{faults: %d}}\n"
    machine = "{id: rack-1, driver: 'sim?play=no-boot&pace=0.02'}"

    def rack() -> Any:
        return asked(service, "GET", "/machines/rack-1")

    with configured(tmp_path, machines=machine, more=more % 0) as service:
        run = asked(service, "POST", "/groups/racks/queue", {"template": "memory"})
        seen(lambda: asked(service, "GET", f"/runs/{run['id']}")["run"]["outcome"])
        assert (rack()["hold"], len(rack()["health"]["faults"])) == (None, 1)
        rewrite(tmp_path, more % 1)
        assert reloaded(service)["keys"] == ["health.faults"]
        asked(service, "POST", "/groups/racks/queue", {"template": "memory"})
        seen(lambda: rack()["hold"])
        assert rack()["hold"]["reason"].startswith("1 fault of the lab in a row: memory (run ")


def test_unknown_machines_are_welcome_after_a_reload_or_wait(tmp_path: Path) -> None:
    def gets(address: str) -> str:
        with httpx.Client(transport=httpx.HTTPTransport(local_address=address)) as client:
            answer = client.head(service.boot, headers={"User-Agent": "UefiHttpBoot/1.0"}, timeout=60)
        return str(answer.headers["dispatch-idle"])

    with configured(tmp_path, more="auth: {}\n") as service:
        gets("127.0.0.2")
        for said, states in (
            ("approve", {"127.0.0.2": "idle", "127.0.0.3": "unapproved"}),
            ("welcome", {"127.0.0.2": "idle", "127.0.0.3": "idle", "127.0.0.4": "idle"}),
        ):
            rewrite(tmp_path, "auth: {}\n", welcome=said, approve=said)
            assert reloaded(service)["keys"] == ["server.unknown_machines"]
            for address in states:
                gets(address)
            assert {each["id"]: each["state"] for each in asked(service, "GET", "/machines")} == states
