"""By which way people come to the API: which are safe, and whom a proxy may speak for."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from labs import TOKEN
from service_bench import PASSWORD, cookies_of, service

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.server.api.account_schemas import SignInRequest
from pytest_dispatch.server.auth.authentication import read_proxies
from pytest_dispatch.server.auth.callers import caller_of
from pytest_dispatch.server.auth.errors import ForbiddenError
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.server.auth.settings import TlsFiles

TLS = TlsFiles(certificate=Path("/c.pem"), key=Path("/k.pem"))


def test_a_network_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"^server\.trusted_proxies: expected networks such as .*, got 'x'"):
        read_proxies("x")


FOR, PROTO, HOST = "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"
PROXIES = tuple(map(read_proxies, ("10.0.0.0/8", "fd00::/8")))


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        # nobody but a trusted proxy speaks for others
        ("192.0.2.1", {FOR: "127.0.0.1", PROTO: "https"}, ("192.0.2.1", "http", "lab")),
        ("10.0.0.1", {}, ("10.0.0.1", "http", "lab")),
        ("10.0.0.1", {PROTO: "https"}, ("10.0.0.1", "http", "lab")),
        ("10.0.0.1", {FOR: "192.0.2.7", PROTO: "https"}, ("192.0.2.7", "https", "lab")),
        # what the client wrote itself stands in front of what the proxy added
        (
            "10.0.0.1",
            {FOR: "127.0.0.1, 192.0.2.7", PROTO: "https, http"},
            ("192.0.2.7", "http", "lab"),
        ),
        # several proxies
        (
            "10.0.0.1",
            {
                FOR: "192.0.2.7, 10.9.9.9",
                PROTO: "https",
                HOST: "x, y.example",
            },
            ("192.0.2.7", "https", "y.example"),
        ),
        (
            "fd00::1",
            {FOR: "[2001:db8::7]:443", PROTO: "HTTPS"},
            ("2001:db8::7", "https", "lab"),
        ),
        (
            "::ffff:10.0.0.1",
            {FOR: "192.0.2.7:55", PROTO: "https"},
            ("192.0.2.7", "https", "lab"),
        ),
    ],
)
def test_who_is_behind_a_proxy(peer: str, headers: dict[str, str], expected: tuple[str, str, str]) -> None:
    request = make_mocked_request("GET", "/", headers={"Host": "lab", **headers}).clone(remote=peer)
    caller = caller_of(request, PROXIES)
    assert (caller.address, caller.scheme, caller.host) == expected
    assert not caller.near


@pytest.mark.parametrize(
    "headers",
    [
        {FOR: "nonsense", PROTO: "https"},
        {FOR: "", PROTO: "https"},
        {FOR: "192.0.2.7, ", PROTO: "https"},
        {FOR: "192.0.2.7"},
        {FOR: "192.0.2.7", PROTO: "gopher"},
    ],
)
def test_a_proxy_that_cannot_be_understood_is_refused(headers: dict[str, str]) -> None:
    request = make_mocked_request("GET", "/", headers=headers).clone(remote="10.0.0.1")
    with pytest.raises(ForbiddenError, match="in the proxy's header X-Forwarded-"):
        caller_of(request, PROXIES)


def test_nobody_behind_a_proxy_is_near() -> None:
    headers = {FOR: "127.0.0.1", PROTO: "http"}
    assert not caller_of(make_mocked_request("GET", "/", headers=headers).clone(remote="10.0.0.1"), PROXIES).near
    assert caller_of(make_mocked_request("GET", "/").clone(remote="127.0.0.9"), PROXIES).near


# A service whose proxy is 127.0.0.7, since tests have no other addresses

PROXY = "127.0.0.7"
FROM = {FOR: "192.0.2.7", HOST: "lab.example"}


@pytest.mark.anyio
async def test_by_way_of_a_proxy_only_https_is_safe(tmp_path: Path) -> None:
    async with service(tmp_path, trusted_proxies=(f"{PROXY}/32",)) as running:
        for scheme, status in (("http", 403), ("https", 200)):
            headers = {**FROM, PROTO: scheme}
            reply = await running.ask("GET", "/me", source=PROXY, headers=headers)
            assert reply.status == status
        refused = await running.ask("GET", "/me", source=PROXY, headers={**FROM, PROTO: "http"})
        assert refused.json["error"].startswith("expected HTTPS, since anybody on the network could read")
        assert TOKEN not in refused.text


@pytest.mark.anyio
async def test_who_does_not_care_says_so(tmp_path: Path) -> None:
    proxies = (f"{PROXY}/32",)
    async with service(tmp_path, trusted_proxies=proxies, insecure=True) as running:
        headers = {**FROM, PROTO: "http"}
        assert (await running.ask("GET", "/me", source=PROXY, headers=headers)).status == 200


@pytest.mark.anyio
async def test_cookie_origin_and_log_are_those_of_the_client(tmp_path: Path) -> None:
    async with service(tmp_path, trusted_proxies=(f"{PROXY}/32",)) as running:
        await running.added("ada", Role.READER, password=PASSWORD)
        headers = {**FROM, PROTO: "https", "Origin": "https://lab.example"}
        wanted = SignInRequest(name="ada", password=PASSWORD)
        reply = await running.ask("POST", "/sign-in", wanted, token="", source=PROXY, headers=headers)
        cookie = cookies_of(reply.headers)
        assert ("__host-dispatch-session" in cookie, "secure" in cookie, cookie["path"]) == (True, True, "/")
        [entry] = await running.audit(action="sign-in")
        assert entry["address"] == "192.0.2.7"
        evil = {**headers, "Origin": "https://evil.example"}
        assert (await running.ask("POST", "/sign-in", wanted, token="", source=PROXY, headers=evil)).status == 403
