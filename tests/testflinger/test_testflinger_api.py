"""The client of Testflinger, against the fake: what it asks, and what it makes of each bad answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.secrets import Token
from pytest_dispatch.support.service_client import ServiceError, read_base
from pytest_dispatch.testflinger.api import Account, TestflingerApi
from pytest_dispatch.testing.clock import ScriptedClock
from pytest_dispatch.testing.testflinger import FakeClient, FakeTestflinger, JobPlan

pytestmark = pytest.mark.anyio

JOB = {"job_queue": "node-1", "tags": ["mine"], "provision_data": {"distro": "noble"}, "reserve_data": {"timeout": 120}}
SECRET = "a-secret-of-mine"


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock()


@pytest.fixture
def farm(clock: ScriptedClock) -> Iterator[FakeTestflinger]:
    with FakeTestflinger(clock=clock) as farm:
        yield farm


@pytest.fixture
async def api(farm: FakeTestflinger, clock: ScriptedClock) -> AsyncIterator[TestflingerApi]:
    api = TestflingerApi(farm.url, None, clock.now)
    yield api
    await api.aclose()


@pytest.fixture
async def signed(farm: FakeTestflinger, clock: ScriptedClock) -> AsyncIterator[TestflingerApi]:
    farm.access.sign_in = True
    farm.add_client(FakeClient(id="me", secret=SECRET))
    api = TestflingerApi(farm.url, Account("me", Token(SECRET, "a test")), clock.now)
    yield api
    await api.aclose()


async def test_a_job_from_its_submission_to_its_end(
    farm: FakeTestflinger, api: TestflingerApi, clock: ScriptedClock
) -> None:
    job = await api.submit(JOB)
    assert [each.job_id for each in await api.find("mine")] == [job]
    assert await api.position(job) == 0
    plan = JobPlan(statuses={"provision": 1}, serial={"provision": ("one", "two")})
    farm.add_agent("node-1", location="TOR3", plans=[plan])
    clock.advance(12)
    assert await api.position(job) is None
    [agent] = await api.agents()
    assert (agent.name, agent.state, agent.job_id, agent.failures) == ("node-1", "provision", job, 0)
    logs = await api.logs(job, "serial")
    assert logs is not None
    assert (logs["provision"].last_fragment_number, logs["provision"].log_data) == (0, "one\n")
    about = await api.about(job)
    assert about is not None
    assert (about.name, about.tags) == ("", ("mine",))
    clock.advance(601)
    result = await api.result(job)
    assert result is not None
    assert (result.state, result.statuses["provision"]) == ("complete", 1)
    assert result.serial["provision"] == "one\ntwo\n"
    assert (await api.agents())[0].failures == 1
    assert not await api.cancel(job)


async def test_a_job_that_is_gone_and_one_that_is_cancelled(farm: FakeTestflinger, api: TestflingerApi) -> None:
    job = await api.submit(JOB)
    assert await api.cancel(job)
    result = await api.result(job)
    assert result is not None
    assert result.state == "cancelled"
    farm.delete(farm.jobs[0])
    assert await api.result(job) is None
    assert await api.about(job) is None
    assert await api.find("mine") == []


async def test_an_older_server_has_its_logs_elsewhere(
    farm: FakeTestflinger, api: TestflingerApi, clock: ScriptedClock
) -> None:
    farm.keep_old_logs()
    farm.add_agent("node-1", plans=[JobPlan(serial={"provision": ("one", "two")})])
    job = await api.submit(JOB)
    clock.advance(1000)
    assert await api.logs(job, "serial") is None
    assert [await api.old_log(job, "serial") for _ in range(2)] == ["one\ntwo\n", ""]


async def test_a_token_is_had_once_and_again_when_it_ends(
    farm: FakeTestflinger, signed: TestflingerApi, clock: ScriptedClock
) -> None:
    await signed.agents()
    await signed.submit(JOB)
    assert farm.calls["POST /v1/oauth2/token"] == 1
    clock.advance(580)  # it would end in 20 seconds
    await signed.agents()
    assert farm.calls["POST /v1/oauth2/token"] == 2
    farm.access.revoke()
    await signed.agents()
    assert farm.calls["POST /v1/oauth2/token"] == 3


async def test_a_wrong_secret_is_an_error_without_it(farm: FakeTestflinger, clock: ScriptedClock) -> None:
    farm.add_client(FakeClient(id="me", secret=SECRET))
    wrong = "another-secret"
    api = TestflingerApi(farm.url, Account("me", Token(wrong, "a test")), clock.now)
    with pytest.raises(ServiceError, match="401 Unauthorized: Invalid client id or secret") as error:
        await api.agents()
    assert (error.value.status, error.value.passes) == (401, False)
    assert wrong not in repr(error.value) + repr(api.__dict__)
    await api.aclose()


async def test_a_job_that_is_refused_is_told_with_its_fields(api: TestflingerApi) -> None:
    with pytest.raises(ServiceError, match=r'422 .*"strange":\["Unknown field."') as error:
        await api.submit({**JOB, "strange": 1})
    assert not error.value.passes
    assert not error.value.sent


async def test_a_lost_answer_may_have_been_carried_out(farm: FakeTestflinger, api: TestflingerApi) -> None:
    farm.fail_next("POST /v1/job", drop_after_commit=True)
    with pytest.raises(ServiceError, match=r"Testflinger at 127.0.0.1 cannot be reached") as error:
        await api.submit(JOB)
    assert error.value.sent
    assert len(farm.jobs) == 1


async def test_a_server_that_fails_is_left_alone_for_longer_each_time(
    farm: FakeTestflinger, api: TestflingerApi, clock: ScriptedClock
) -> None:
    farm.fail_next("GET /v1/agents/data", status=503, html=True, times=2)
    for pause in (1, 2):
        with pytest.raises(ServiceError, match=r"GET /agents/data with 503 Service Unavailable$"):
            await api.agents()
        asked = farm.calls["GET /v1/agents/data"]
        with pytest.raises(ServiceError, match="503") as error:
            await api.agents()
        assert not error.value.sent
        assert farm.calls["GET /v1/agents/data"] == asked
        clock.advance(pause)
    assert await api.agents() == []


async def test_a_server_that_asks_for_a_pause_gets_it(
    farm: FakeTestflinger, api: TestflingerApi, clock: ScriptedClock
) -> None:
    farm.fail_next("GET /v1/agents/data", status=429, headers={"Retry-After": "30"})
    with pytest.raises(ServiceError, match="429"):
        await api.agents()
    assert api.client.breaker.left == pytest.approx(30)


async def test_something_else_at_the_address(farm: FakeTestflinger, api: TestflingerApi, clock: ScriptedClock) -> None:
    farm.fail_next("GET /v1/agents/data", status=200, html=True)
    with pytest.raises(ServiceError, match="answered with something that is not Testflinger's"):
        await api.agents()
    clock.advance(60)
    farm.fail_next("GET /v1/agents/data", status=302, headers={"Location": "https://elsewhere.example/"})
    with pytest.raises(ServiceError, match="302 Found, which is not followed; is its address right"):
        await api.agents()


@pytest.mark.parametrize("url", ["testflinger.example", "http://testflinger.example", "https://me:pass@x.example", ""])
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="TESTFLINGER_URL: expected an https:// address") as error:
        read_base("TESTFLINGER_URL", url)
    assert "pass@" not in str(error.value)
    assert read_base("X", "http://127.0.0.1:5000/") == "http://127.0.0.1:5000"
