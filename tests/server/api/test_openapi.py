"""The API's description is OpenAPI, and what goes over the wire in a whole session is what it describes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from labs import embedded, sims, workload
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.validation.response.exceptions import InvalidData
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.datastructures import Headers, ImmutableMultiDict

from pytest_dispatch.client.holder_issues import claim_issues
from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.client.run_log import fetch_log
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.explanation import Explanation
from pytest_dispatch.core.model import Issue, Outcome, Policy
from pytest_dispatch.core.notices import Notice
from pytest_dispatch.lab_program.in_process import InProcessLab
from pytest_dispatch.server.api.openapi import describe
from pytest_dispatch.server.api.route import PREFIX
from pytest_dispatch.server.api.routes import ROUTES, all_routes
from pytest_dispatch.server.api.schemas import API, HeldView, OpenSession, RunChange, RunRequest, RunView
from pytest_dispatch.server.api.session_schemas import Readable

OCTETS = "application/octet-stream"


@dataclass(kw_only=True)
class Asked:
    """A request as openapi-core wants it; `parameters.path` is filled in by it."""

    host_url: str
    path: str
    method: str
    parameters: RequestParameters
    content_type: str
    body: bytes | None


@dataclass(frozen=True, kw_only=True)
class Answered:
    """An answer as openapi-core wants it."""

    status_code: int
    headers: Headers
    content_type: str
    data: bytes


class Recorder:
    """Everything that a client asks, each request with its answer."""

    def __init__(self) -> None:
        self.exchanges: list[tuple[httpx.Request, httpx.Response]] = []

    def judge(self, document: dict[str, Any]) -> list[tuple[str, str, int]]:
        """Hold all of it against the description; returns method, path as described, and status of each."""
        texts: dict[str, Any] = {"text/event-stream": bytes.decode}
        api = OpenAPI.from_dict(document, config=Config(extra_media_type_deserializers=texts))
        found = []
        for request, response in self.exchanges:
            asked, answered = _asked(request), _answered(response)
            result = api.unmarshal_response(asked, answered)
            result.raise_for_errors()
            wellformed = api.unmarshal_request(asked)
            if response.status_code not in (400, 401, 428):
                wellformed.raise_for_errors()
            template = request.url.path
            for value in wellformed.parameters.path.values():
                template = template.replace(str(value), "*")
            found.append((request.method, template, response.status_code))
        return found


def _asked(request: httpx.Request) -> Asked:
    return Asked(
        host_url=f"http://{request.url.netloc.decode()}",
        path=request.url.path,
        method=request.method.lower(),
        parameters=RequestParameters(
            query=ImmutableMultiDict(request.url.params),
            header=Headers(dict(request.headers)),
            cookie=ImmutableMultiDict(),
        ),
        content_type=request.headers.get("content-type", ""),
        body=b"bytes" if request.headers.get("content-type") == OCTETS else request.content or None,
    )


def _answered(response: httpx.Response) -> Answered:
    streamed = response.headers.get("content-type") == "text/event-stream"
    return Answered(
        status_code=response.status_code,
        headers=Headers(dict(response.headers)),
        content_type=response.headers.get("content-type", ""),
        data=b"data: {}\n\n" if streamed else response.content,
    )


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Listens at the ways out of the standard library, below the client, and of httpx, by which tests ask."""
    recorder, ask, answer = Recorder(), HTTPConnection.request, HTTPConnection.getresponse
    send = httpx.Client.send
    asked: dict[HTTPConnection, httpx.Request] = {}

    def asking(self: HTTPConnection, method: str, url: str, body: Any, headers: dict[str, str]) -> None:
        whole = body if isinstance(body, bytes) else None  # the judge looks into no bytes of files
        asked[self] = httpx.Request(method, f"http://{self.host}:{self.port}{url}", content=whole, headers=headers)
        ask(self, method, url, body, headers)

    def answering(self: HTTPConnection) -> HTTPResponse:
        response = answer(self)
        if response.headers.get("Content-Type") == "text/event-stream":
            content = b""
        else:
            content = response.read()
            monkeypatch.setattr(response, "read", lambda: content)
        told = httpx.Response(response.status, headers=list(response.headers.items()), content=content)
        recorder.exchanges.append((asked[self], told))
        return response

    def listening(self: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
        response = send(self, request, **more)
        recorder.exchanges.append((request, response))
        return response

    monkeypatch.setattr(httpx.Client, "send", listening)
    monkeypatch.setattr(HTTPConnection, "request", asking)
    monkeypatch.setattr(HTTPConnection, "getresponse", answering)
    return recorder


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[InProcessLab]:
    lab = embedded(tmp_path, machines=sims(2))
    lab.start("w")
    yield lab
    lab.stop()


def document_of(lab: InProcessLab) -> dict[str, Any]:
    answer = httpx.get(f"{lab.url}{PREFIX}/openapi.json", headers={"Authorization": f"Bearer {lab.token}"})
    document: dict[str, Any] = answer.json()
    return document


def test_the_description_is_openapi() -> None:
    document = msgspec.json.decode(msgspec.json.encode(describe(all_routes(), PREFIX)))
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1.")
    operations = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert operations == {(route.method.lower(), PREFIX + route.path) for route in all_routes()}
    assert all(name.isidentifier() for name in document["components"]["schemas"])


def test_a_whole_session_is_as_described(lab: InProcessLab, recorder: Recorder, tmp_path: Path) -> None:
    client = LabClient(lab.url, lab.token)
    policy = Policy(judged=True, retries=0)
    assert client.lab().api == API
    opened = client.open(OpenSession(source="w", policy=policy, issues=(), resume=True))
    changes: list[RunChange | Notice | HeldView | dict[str, int]] = []
    reader = threading.Thread(target=lambda: changes.extend(_until_over(client, opened.id)))
    reader.start()
    scenarios = ("pass", "fail", "multi-report", "hang")
    wanted = [RunRequest(key=name, workload=workload(tmp_path / f"{name}.efi", plays=name)) for name in scenarios]
    runs = {view.run.key: view.run.id for view in client.submit(opened.id, wanted)}
    assert {view.run.id for view in client.submit(opened.id, wanted)} == set(runs.values())
    for key in ("pass", "fail", "multi-report"):
        proposed = next(view for view in client.follow(runs[key]) if view.run.attempt.proposed is not None)
        client.decide(proposed.run.id, Outcome.SKIPPED if key == "pass" else None, "so it is")
        assert not client.review(proposed.run.id, {key: Issue(title="t", body="b", marker=key)})
    hung = next(view for view in client.follow(runs["hang"]) if view.run.attempt.ran)
    client.cancel(hung.run.id)
    client.cancel(hung.run.id)  # it is over by now: its session wants no more
    assert {view.name for view in client.session(opened.id).machines} == {"sim-1", "sim-2"}
    outcomes = {key: client.run(run_id).run.outcome for key, run_id in runs.items()}
    assert {view.run.id: view.run.outcome for view in client.runs(opened.id)} == {
        runs[key]: outcome for key, outcome in outcomes.items()
    }
    assert claim_issues(client.connection, opened.id) == []
    assert client.outlook(opened.id, [((), ""), (("ram>=64",), "")]).machines == 2
    why = client.connection.ask(Explanation, "GET", f"/runs/{runs['hang']}/explanation")
    assert why.sentence.startswith("It was cancelled at ")
    assert fetch_log(client.connection, runs["pass"]) == "\n".join(
        line.text for line in client.run(runs["pass"]).console
    )
    query = {"location": "https://elsewhere.example/repos/o/r/releases/assets/1"}
    assert not client.connection.ask(Readable, "GET", f"/sessions/{opened.id}/readable", None, query).readable
    client.end(opened.id)
    reader.join()
    assert client.take_over(opened.id, OpenSession(source="w", policy=policy)).epoch == 2
    _ask_what_cannot_be(lab, client, opened.id)
    client.close()

    assert outcomes == {
        "pass": Outcome.SKIPPED,
        "fail": Outcome.FAILED,
        "multi-report": Outcome.PASSED,
        "hang": Outcome.ERROR,
    }
    assert {type(change) for change in changes} >= {RunChange}
    seen = recorder.judge(document_of(lab))
    good = {(method, path) for method, path, status in seen if status < 400}
    of_services = {("POST", f"{PREFIX}/reload"), ("GET", f"{PREFIX}/reload")}  # pages ask for them
    others = [r for r in ROUTES[:-1] if not r.path.endswith("/pending-issues/tried")]  # none in a lab of pytest's own
    assert good >= {(r.method, PREFIX + re.sub(r"{\w+}", "*", r.path)) for r in others} - of_services
    assert {status for _, _, status in seen} == {200, 201, 204, 400, 401, 403, 404, 409, 421, 428}


def _until_over(client: LabClient, session: str) -> Iterator[RunChange | Notice | HeldView | dict[str, int]]:
    over: set[str] = set()
    for _, change in client.changes(session, 0):
        yield change
        if isinstance(change, RunChange):
            over |= {change.run.id} if change.run.outcome is not None else set()
        if len(over) == 4:
            return


def _ask_what_cannot_be(lab: InProcessLab, client: LabClient, session: str) -> None:
    """Every refusal that the description lists, but a broken lab, and what is too much or too long."""
    with pytest.raises(LabError, match="no run 'nothing'; submit it first"):
        client.run("nothing")
    with pytest.raises(LabError, match="no session 'nothing'; open it first"):
        next(client.changes("nothing", 0))
    bearer = {"Authorization": f"Bearer {lab.token}"}
    path = f"{lab.url}{PREFIX}/sessions/{session}"
    bad = httpx.delete(f"{path}?kept=soon", headers={**bearer, "Dispatch-Epoch": "2"})
    assert bad.json() == {"error": "query parameter kept: expected a number, got 'soon'"}
    assert httpx.delete(path, headers={**bearer, "Dispatch-Epoch": "1"}).status_code == 409
    assert httpx.delete(path, headers=bearer).status_code == 428
    for header in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        given = {"Authorization": f"Bearer {lab.token}", **header}
        assert httpx.get(f"{lab.url}{PREFIX}/runs/x", headers=given).is_client_error
    stranger = LabClient(lab.url, "a guess")
    with pytest.raises(LabError, match="bearer token"):
        stranger.session(session)
    stranger.close()


def test_who_follows_a_run_has_all_its_reports_and_was_sent_each_once(
    lab: InProcessLab, recorder: Recorder, tmp_path: Path
) -> None:
    client = LabClient(lab.url, lab.token)
    opened = client.open(OpenSession(source="w", policy=Policy()))
    asked = workload(tmp_path / "a.efi", plays="multi-report")
    [view] = client.submit(opened.id, [RunRequest(key="k", workload=asked)])
    *_, followed = _until_it_ends(client, view)
    told = b"".join(response.content for request, response in recorder.exchanges if "known=" in str(request.url))
    whole = client.run(view.run.id)
    client.end(opened.id)
    client.close()
    titles = [report.title for report in whole.run.attempt.reports]
    assert titles == [f"a.efi: {which}" for which in ("platform", "certificate", "summary")]
    assert followed.run == whole.run
    assert [told.count(title.encode()) for title in titles] == [1, 1, 1]
    recorder.judge(document_of(lab))


def _until_it_ends(client: LabClient, view: RunView) -> Iterator[RunView]:
    for seen in client.follow(view.run.id, view):
        yield seen
        if seen.run.outcome is not None:
            return


def test_the_judge_can_say_no(lab: InProcessLab, recorder: Recorder) -> None:
    """An answer that is not as described is noticed."""
    client = LabClient(lab.url, lab.token)
    client.open(OpenSession(source="w", policy=Policy()))
    client.close()
    document = document_of(lab)
    document["components"]["schemas"]["Opened"]["properties"]["id"] = {"type": "integer"}
    with pytest.raises(InvalidData, match="is not of type 'integer'"):
        recorder.judge(document)
