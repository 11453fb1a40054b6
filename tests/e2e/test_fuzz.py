"""Nothing that comes in breaks anything: not over HTTP, in reports, in manifests or in names. See `make fuzz`."""

from __future__ import annotations

import http.client
import json
import math
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from faults import fault
from fetching import EFI
from forks import Forks
from fuzzing import MINUTES, fuzz
from hypothesis import strategies as st
from labs import embedded, workload
from plugin_bench import IN_THREAD, WITHOUT, Bench
from rendering import LONG_TEXTS, TEXTS, holds, holds_cut, holds_filed
from told_runs import attempt, case, report, run
from torture import larger

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.media import BUILT_IN, kind_of
from pytest_dispatch.core.model import Outcome, Policy, Report
from pytest_dispatch.core.plain_text import LONGEST_NAME, is_name, node_name, plain, plain_line
from pytest_dispatch.core.verdict import judge_report
from pytest_dispatch.github.api import GitHubApi, GitHubError
from pytest_dispatch.lab_program.in_process import InProcessLab
from pytest_dispatch.results.cases import cases_in_body, parse_tap
from pytest_dispatch.results.junit_reader import CasesError, parse_junit
from pytest_dispatch.results.junit_writer import JunitCase, write_junit
from pytest_dispatch.results.report_body import read_report
from pytest_dispatch.results.tap import MOST_CASES
from pytest_dispatch.server.api.schemas import EPOCH, OpenSession, RunRequest
from pytest_dispatch.sources.folder import list_folder
from pytest_dispatch.support.transport import proxy_for
from pytest_dispatch.testing.github import FakeGitHub

HOSTILE = "127.0.0.66"
PATIENCE = 60.0  # seconds in which any request is answered

#: What terminals, paths, markup and parsers are hurt by, and everything else.
NASTY = st.sampled_from(
    [
        *("../../../etc/passwd", "..\\..", "/etc/passwd", "a/../../b", "\x00", "\x1b[2J", "\x1b]0;x\x07", "\r\nX: y"),
        *("\u202egnp.exe", "\u2066", "\u200f", "\u2028", "\ud800", "\ufffe", "\x85", "a::b", "::", "%00", "%2e%2e/"),
        *("<!--", "]]>", "&amp;", "<!DOCTYPE x>", "'\"", "{}", "${x}", "@everyone", "CON", "~", "-", "--help"),
        *("x" * 10_000, "é" * 300, "💥" * 200, " ", "\t", ".", "..", ""),
    ]
)
TEXT = st.text(max_size=40) | NASTY | st.lists(NASTY | st.text(max_size=9), max_size=4).map("".join)


def acts(text: str) -> set[str]:
    """What in a text a terminal would act on, or take for the end of a line."""
    return {char for char in text if not char.isprintable()} - {"\n", "\t"}


def is_one_line(text: str) -> None:
    """It can be shown as it is, and does not fill the screen."""
    assert text.isprintable(), repr(text)
    assert len(text) < 1000


# Over HTTP


@dataclass
class Lab:
    """A lab in a thread of this process, with real sockets; a machine that behaves, and one that does not."""

    lab: InProcessLab
    client: LabClient
    session: str
    folder: Path

    def __post_init__(self) -> None:
        self.port = int(self.lab.url.rpartition(":")[2])
        self._numbers = count(1)
        self.requests = 0

    def boots(self, address: str, body: bytes | None = b'{"title": "t"}') -> str:
        """Boot a new workload on the machine of that address; returns its run's id."""
        name = f"w-{next(self._numbers)}.efi"
        [view] = self.client.submit(self.session, [RunRequest(key=name, workload=workload(self.folder / name, 600))])
        head = self._ask(address, "HEAD")
        got = self._ask(address, "GET")
        assert (head[0], got[0], got[1]) == (200, 200, (self.folder / got[2]).read_bytes())
        assert self._ask(address, "POST")[0] == 200
        if body is not None:
            assert self._ask(address, "PUT", body)[0] == 200
        return view.run.id

    def _ask(self, address: str, method: str, body: bytes | None = None) -> tuple[int, bytes, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE, source_address=(address, 0))
        try:
            connection.request(method, "/dispatch", body)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers.get("Dispatch-Workload", "")
        finally:
            connection.close()

    def send(self, raw: bytes) -> bytes:
        """Send bytes from the hostile machine and close our half; returns all that came back."""
        self.requests += 1
        if self.requests % 200 == 0:
            self.boots(HOSTILE, None)  # or it would soon be told that it has nothing to report
        with socket.socket() as sock:
            sock.settimeout(PATIENCE)
            sock.bind((HOSTILE, 0))
            sock.connect(("127.0.0.1", self.port))
            came = b""
            with suppress(ConnectionError):
                sock.sendall(raw)
                sock.shutdown(socket.SHUT_WR)
                while piece := sock.recv(65536):
                    came += piece
            return came

    @contextmanager
    def listens(self, query: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        """Ask for the session's events: the answer, whose head has come."""
        signed = {"Authorization": f"Bearer {self.lab.token}", **headers}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request("GET", f"{EVENTS.format(session=self.session)}?{query}", headers=signed)
            with connection.getresponse() as answer:
                yield answer

    def answers(self, raw: bytes) -> None:
        """Whatever comes back is no fault of the server."""
        for line in statuses(self.send(raw)):
            assert re.match(rb"HTTP/\d\.\d [1-4]\d\d ", line), (line, raw)  # the version is the request's own


def statuses(came: bytes) -> list[bytes]:
    """The first line of the first answer; bodies and further answers may be anything."""
    return [came.partition(b"\r\n")[0]] if came else []


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("fuzzed")
    lab = embedded(folder)
    lab.start("w")
    client = LabClient(lab.url, lab.token)
    policy = Policy(limits={"assign": 86400, "boot": 86400, "report": 86400})
    try:
        running = Lab(lab, client, client.open(OpenSession(source="w", policy=policy)).id, folder)
        running.boots(HOSTILE, None)
        yield running
        running.boots("127.0.0.9")
    finally:
        client.close()
        lab.stop()


METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT"]) | st.sampled_from(
    ["DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "PRI", "", "X" * 300, "G\0T"]
)
TARGETS = st.one_of(
    st.sampled_from(
        [
            *("/dispatch", "/dispatch?arch=aa64", "/dispatch?arch=../../x", "/dispatch?machine=guess", "//dispatch"),
            *("/dispatch/look", "/dispatch/look?machine=guess", "/dispatch//look/"),
            *("/dispatch/", "/dispatch?machine=%00", "/", "*", "http://other/dispatch", "/dispatch#x", "/%64ispatch"),
            *("/api/v1", "/api/v1/", "/api/v1/openapi.json", "/api/v1/sessions", "/api/v1/runs/x", "/api/v1/runs/%2F"),
            *("/api/v1/../../dispatch", "/dispatch/../api/v1/openapi.json", "/dispatch?" + "a=b&" * 500, "/" * 9000),
            *("/api/v1/sessions/x/events?after=1e999", "/api/v1/runs/x?wait=nan", "/\u202e", "/\x1b[2J", "/%ff%fe"),
        ]
    ),
    TEXT.map(lambda text: f"/dispatch?machine={text}"),
    TEXT.map(lambda text: f"/api/v1/sessions/{text}"),
    TEXT,
)
NUMBERS = st.sampled_from(
    ["0", "1", "-1", "+5", "5 5", "1e9", "99999999999999999999", "0x10", "", "٣", "1_0", "16777217"]
)
HEADERS = st.one_of(
    st.tuples(st.just("Content-Length"), NUMBERS),
    st.tuples(st.just("Transfer-Encoding"), st.sampled_from(["chunked", "identity", "gzip, chunked", "xchunked", " "])),
    st.tuples(
        st.just("Range"),
        st.sampled_from(
            ["bytes=0-", "bytes=5-2", "bytes=-", "bytes=-9999999", "bytes=0-0,5-9", "lines=1-2", "bytes=٣-"]
        )
        | TEXT,
    ),
    st.tuples(st.sampled_from(["If-Match", "If-None-Match", "If-Range"]), st.sampled_from(["*", '"x"', "W/"]) | TEXT),
    st.tuples(st.just("Expect"), st.sampled_from(["100-continue", "200-ok"])),
    st.tuples(st.just("Host"), st.sampled_from(["127.0.0.1", "evil.example", "[::1", "a b", ""]) | TEXT),
    st.tuples(st.just("Authorization"), st.sampled_from(["Bearer x", "Bearer", "Basic eA==", "Bearer \xff"]) | TEXT),
    st.tuples(st.just("Connection"), st.sampled_from(["keep-alive", "close", "Upgrade", "x" * 500])),
    st.tuples(st.just("Upgrade"), st.sampled_from(["websocket", "h2c"])),
    st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "deflate", "br", "zstd", "x"])),
    st.tuples(
        st.just("Content-Type"), st.sampled_from(["application/json; charset=utf-7", "multipart/form-data", ";"])
    ),
    st.tuples(st.just("User-Agent"), st.sampled_from(["curl/8", "Wget", "Mozilla/5.0", "Go-http-client/1.1"]) | TEXT),
    st.tuples(st.sampled_from(["Accept", "Accept-Language", "Referer", "Origin", "Sec-Fetch-Mode", "Cookie"]), TEXT),
    st.tuples(TEXT, TEXT),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OUTCOMES = st.sampled_from([*Outcome, "Passed", "ok", "NOT OK", "not-run", True, "", 1, None])
CASE = st.fixed_dictionaries(
    {"name": TEXT},
    optional={
        **dict.fromkeys(("outcome", "result", "status"), OUTCOMES),
        "duration": st.floats() | NUMBERS | st.none(),
        "message": TEXT | JSON,
    },
)
PREFIXES = st.sampled_from(
    ["", "", "\ufeff", "    ", "# ", "[    1.000000] ", "[Tue Jan  2 12:00:00 2024] ", "vm-1 | "]
)
TAP = st.builds(
    lambda prefix, lines: "\n".join(f"{prefix}{line}" for line in lines),
    PREFIXES,
    st.lists(
        st.sampled_from(
            [
                *("TAP version 13", "KTAP version 1", "1..0", "1..0 # SKIP x", "1..1", "1..2", "ok 1", "not ok 2 - x"),
                *("not ok 1 # TODO", "  ---", "  ...", "# Subtest: y", "    ok 1", "    not ok 1 - z", "    1..1"),
                *("ok 1 - b {", "{", "}", "Bail out!", "# Looks like you failed 1 test of 2.", "# fail 1"),
            ]
        )
        | TEXT
    ),
)
XML = st.lists(
    st.sampled_from(
        [
            *(
                "<testsuites>",
                "<testsuite>",
                "</testsuite>",
                "<testcase name='a'>",
                "</testcase>",
                "<failure/>",
                "&lt;",
            ),
            *("<!DOCTYPE a [<!ENTITY b 'c'>]>", "<?xml version='1.0' encoding='utf-16'?>", "<![CDATA[", "]]>", "&#0;"),
            *("<testsuite tests='2' failures='1' errors='x'>", "<testsuites errors='1'>", "<error message='m'/>"),
            *("<skipped/>", "<testcase status='disabled' time='0,160'/>", "<testcase result='FAILED'/>", "\ufeff"),
            *("&#xD800;", "&#65;", "<?xml version='1.0'?>", "text before\n"),
            *("<testcase time='nan' status='\u202e'/>", "&xxe;", "<a:b/>", "<?php ?>", "<!ELEMENT a ANY>"),
        ]
    )
    | TEXT
).map("".join)
REPORTS = st.fixed_dictionaries(
    {"title": TEXT},
    optional={
        "body": TEXT | TAP | XML,
        "labels": st.lists(TEXT, max_size=5) | JSON,
        "assignees": st.lists(TEXT, max_size=5),
        "milestone": TEXT,
        **dict.fromkeys(("outcome", "result", "status"), OUTCOMES),
        "cases": st.lists(CASE, max_size=5) | JSON,
        "junit": XML,
        "tap": TAP,
    },
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1"])
#: As programs write it that are not careful: control characters and halves of characters as they are, NUL at the end.
CARELESS = st.builds(
    lambda value, encoding, end: (
        re.sub(r"\\u00[01][0-9a-f]|\\[nrt]", lambda found: json.loads(f'"{found[0]}"'), json.dumps(value)).encode(
            encoding, "replace"
        )
        + end
    ),
    REPORTS,
    ENCODINGS,
    st.sampled_from([b"", b"\0", b"\r\n\0\0", b"\xff"]),
)
BODIES = (REPORTS | JSON).map(lambda value: json.dumps(value).encode()) | CARELESS | st.binary(max_size=200)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that may be malformed anywhere."""
    version = draw(st.sampled_from(["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.1 x", "SPDY", ""]))
    lines = [f"{draw(METHODS)} {draw(TARGETS)} {version}"]
    headers = draw(st.lists(HEADERS, max_size=5))
    body = draw(BODIES) if draw(st.booleans()) else b""
    if draw(st.integers(0, 3)):
        headers += [("Host", "127.0.0.1"), ("Content-Length", str(len(body)))]
    lines += [f"{name}: {value}" for name, value in headers]
    raw = (
        draw(st.sampled_from(["\r\n"] * 6 + ["\n", "\r"])).join([*lines, "", ""]).encode(errors="surrogatepass") + body
    )
    return raw[: draw(st.integers(0, len(raw)))] if not draw(st.integers(0, 5)) else raw


@fault(
    "Hostile input",
    "A machine sends requests that are malformed anywhere",
    outcome="the other machines boot and report as ever",
    told="nothing; it gets an answer below 500, or is cut off",
)
def test_any_request_is_answered_or_cut_off(lab: Lab) -> None:
    fuzz("requests", 250, lab.answers, requests())
    lab.boots("127.0.0.7")


def test_any_bytes_on_a_connection(lab: Lab) -> None:
    fuzz("connections", 100, lab.answers, st.binary(max_size=300))
    lab.boots("127.0.0.7")


@fault(
    "Hostile input",
    "A workload reports rubbish: other types, control characters, broken or endless TAP and XML",
    outcome="what can be read is kept; the other machines boot and report as ever",
    told="`unreadable: …` where its results are; else 400, to the workload: the field, or the line and the column",
)
def test_any_report_over_http(lab: Lab) -> None:
    def check(body: bytes) -> None:
        head = f"PUT /dispatch HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        [line] = statuses(lab.send(head.encode() + body))
        assert int(line[9:12]) in (200, 400), (line, body)

    fuzz("reports over HTTP", 200, check, BODIES)
    lab.boots("127.0.0.7")


def test_any_report_is_read_or_refused() -> None:
    def check(body: bytes) -> None:
        try:
            report = read_report(body)
        except ValueError as error:
            is_one_line(str(error))
            return
        assert isinstance(report, Report)
        assert all(math.isfinite(case.duration) and case.duration >= 0 for case in report.cases)

    fuzz("reports", 250, check, BODIES)


@fault(
    "Hostile input",
    "A report lists more than 100,000 cases",
    outcome="unchanged: the report does not count",
    told="400 and what was expected, to the workload",
)
def test_a_report_has_only_so_many_cases() -> None:
    def of(count: int) -> bytes:
        return json.dumps({"title": "t", "cases": [{"name": "x", "outcome": "passed"}] * count}).encode()

    assert len(read_report(of(MOST_CASES)).cases) == MOST_CASES
    with pytest.raises(ValueError, match=r"length <= 100000 - at `\$\.cases`"):
        read_report(of(MOST_CASES + 1))


#: Checks that do not apply: OPTIONS tells of all methods at once, so that nobody learns without the token what there
#: is; a body may have more than the description says; and what is no HTTP is refused before it is known for the API's.
NOT_CHECKED = (
    "allow_header_conformance,unsupported_method,negative_data_rejection,positive_data_acceptance,"
    "content_type_conformance"
)

#: Of a session that there is, their stream has no end, and schemathesis reads every answer to its end: that is asked
#: for below, and read only in part.
EVENTS = "/api/v1/sessions/{session}/events"
#: Who takes a session over has it alone, and the tests that follow would not.
LEASE = "/api/v1/sessions/{session}/lease"


@pytest.mark.parametrize("known", [False, True], ids=["any id", "an id that there is"])
@pytest.mark.draw(2, of="what takes longest to fuzz")
def test_the_api_keeps_to_its_description(lab: Lab, tmp_path: Path, known: bool) -> None:
    run = lab.boots("127.0.0.8", None)
    config = tmp_path / "schemathesis.toml"
    usual = {"path.session": lab.session, "path.run": run, "query.wait": 0, f"header.{EPOCH}": "1"} if known else {}
    config.write_text("[parameters]\n" + "".join(f"{json.dumps(k)} = {json.dumps(v)}\n" for k, v in usual.items()))
    phases = "coverage,fuzzing" if MINUTES else "fuzzing" if known else "coverage"
    long = (f"--max-time={60 * MINUTES:.0f}", "--generation-database=none")
    amount = long if MINUTES else ("--generation-deterministic",)
    report = tmp_path / "report.xml"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "--no-color"),
            *("run", f"{lab.lab.url}/api/v1/openapi.json", "--header", f"Authorization: Bearer {lab.lab.token}"),
            *("--checks=all", f"--exclude-checks={NOT_CHECKED}", f"--phases={phases}", "--continue-on-failure"),
            *(["--exclude-method=DELETE", f"--exclude-path={EVENTS}", f"--exclude-path={LEASE}"] if known else []),
            *(*amount, "--max-examples=5", f"--request-timeout={PATIENCE}"),
            *("--report=junit", f"--report-junit-path={report}", "--warnings=off"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60 * (MINUTES + 5),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(list(ElementTree.parse(report).iter("testcase"))) >= 5
    if MINUTES:
        print(f"\nfuzzed the API: {''.join(re.findall('[0-9]+ generated', result.stdout))}")
    lab.boots("127.0.0.7")


@pytest.mark.parametrize(("query", "headers"), [("after=0", {}), ("after=9", {"Last-Event-ID": "0"}), ("", {})])
def test_the_events_of_a_session_keep_to_their_description(lab: Lab, query: str, headers: dict[str, str]) -> None:
    with lab.listens(query, headers) as answer:
        assert (answer.status, answer.headers.get_content_type()) == (200, "text/event-stream")
        lines = [answer.readline() for _ in range(3)]
    assert lines[:2] == [b"id: 1\n", b"event: change\n"]
    assert lines[2].startswith(b"data: {")


def test_any_place_from_which_to_tell_events(lab: Lab) -> None:
    """Only the head of the answer is read: where nothing follows, nothing comes."""

    def check(after: str, last: str) -> None:
        query = f"after={quote(after, errors='surrogatepass')}"
        with lab.listens(query, {"Last-Event-ID": last}) as answer:
            told = (answer.status, answer.headers.get_content_type())
        assert told in {(200, "text/event-stream"), (400, "application/json")}, (after, last)

    texts = TEXT.map(lambda text: text[:300])  # a request line has an end, and one of these may be 12 bytes of it
    fuzz("places among events", 40, check, NUMBERS | texts, NUMBERS.filter(str.isascii))
    lab.boots("127.0.0.7")


# Results of tests


def test_no_results_pass_that_another_reader_cannot_pass() -> None:
    """Whatever they are made of: what passes is well-formed, has a test, shows no failure, and keeps to a plan."""

    def check(tap: str, xml: str) -> None:
        for given in ({"tap": tap}, {"junit": xml}):
            report = read_report(json.dumps({"title": "t", **given}).encode())
            if judge_report(report, Policy()) is not Outcome.PASSED:
                continue
            if "tap" in given:
                assert re.search(r"(?<![0-9])1\.\.[1-9]", tap)
                assert not re.search(r"(?m)^(not ok [0-9](?!.*#)|Bail out!)", tap), tap
            else:
                assert "<testcase" in xml
                told = re.sub(r"(?s)<!\[CDATA\[.*?\]\]>|<!--.*?-->|<\?.*?\?>", "", xml)
                assert not re.search(r"<(failure|error)\b", told), xml

    fuzz("results that pass", 400, check, TAP, XML)


def test_any_text_is_results_or_not() -> None:
    def check(text: str) -> None:
        cases = cases_in_body(text)
        for parse in (parse_tap, parse_junit):
            with suppress(CasesError):
                cases += parse(text)
        assert all(case.name and math.isfinite(case.duration) for case in cases)

    fuzz("TAP, KTAP and JUnit", 500, check, TAP | XML | TEXT)


LONG = larger(17, 100) * 10**6  # characters: more than a report may have, and with `make torture` many more
#: Python that makes a text which is out to take all time or memory.
BOMBS = {
    "a line longer than any report": f"'x' * {LONG}",
    "a result longer than any report": f"'TAP version 13\\nok 1 - ' + 'x' * {LONG}",
    "remarks longer than any report": f"'TAP version 13\\n' + '# ' * ({LONG} // 2) + '\\nnot ok 1'",
    "elements within elements": "'<testsuite>' * 10**6",
    "a billion laughs": "'<!DOCTYPE l [<!ENTITY a0 \"lol\">'"
    " + ''.join('<!ENTITY a%d \"%s\">' % (n, '&a%d;' % (n - 1) * 10) for n in range(1, 30))"
    " + ']><testsuite>&a29;</testsuite>'",
    "an entity that is read from elsewhere": "'<!DOCTYPE l [<!ENTITY a SYSTEM \"file:///dev/zero\">]>'"
    " + '<testsuite>&a;</testsuite>'",
    "a long entity, used often": "'<!DOCTYPE l [<!ENTITY a \"' + 'x' * 10**6 + '\">]>'"
    " + '<testsuite>' + '&a;' * 10**5 + '</testsuite>'",
    "300,000 attributes": "'<testsuite ' + ' '.join('a%d=\"1\"' % n for n in range(300_000)) + '/>'",
    "a message longer than any report": f"'<testsuite><testcase><failure>' + 'x' * {LONG}"
    " + '</failure></testcase></testsuite>'",
    "subtests within subtests": "'TAP version 14\\n'"
    f" + ''.join(' ' * n + 'ok 1 - x\\n' for n in range({larger(5800, 8000)}))",
}
MEMORY = larger(512, 1536) * 2**20  # bytes: the text itself, what is made of it, and Python
SECONDS = larger(30, 60)  # of the processor, whatever else it does

BOUNDED = """
import resource, sys
if sys.platform == "linux":
    resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
from pytest_dispatch.results.cases import cases_in_body, parse_tap
from pytest_dispatch.results.junit_reader import CasesError, parse_junit
text = {text}
for parse in (cases_in_body, parse_tap, parse_junit):
    try:
        print(len(parse(text)))
    except CasesError as error:
        print(str(error)[:200])
"""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            text,
            id=what,
            marks=fault(
                "Hostile input",
                f"A workload's results are {what}",
                outcome="failed, if it cannot be read; time and memory stay bounded",
                told="`unreadable: …`, and what was expected",
            ),
        )
        for what, text in BOMBS.items()
    ],
)
@pytest.mark.draw(2, of="what takes longest to fuzz")
def test_a_bomb_goes_off_in_bounded_time_and_memory(text: str) -> None:
    code = BOUNDED.format(memory=MEMORY, seconds=SECONDS, text=text)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 3), result.stderr


# Manifests and names


VALUES = TEXT | st.integers() | st.booleans() | st.lists(TEXT, max_size=3) | NUMBERS
KEYS = st.sampled_from(
    [
        *("name", "file", "type", "labels", "requires", "expect"),
        *("assign-timeout", "boot-timeout", "report-timeout"),
    ]
)
TABLES = st.lists(st.dictionaries(KEYS | TEXT, VALUES, max_size=6) | st.just({"name": "a.efi"}), max_size=4)


def toml(tables: list[dict[str, Any]]) -> bytes:
    """A manifest; JSON's values are TOML's, but for halves of characters."""
    lines = []
    for table in tables:
        lines += ["[[workload]]", *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines).encode(errors="surrogatepass")


MANIFESTS = st.one_of(
    TABLES.map(toml),
    st.binary(max_size=300),
    TEXT.map(lambda text: text.encode(errors="surrogatepass")),
    st.integers(1, 20_000).map(lambda depth: b"workload = " + b"[" * depth),
    st.integers(1, 20_000).map(lambda depth: b"workload" + b".a" * depth + b" = 1"),
    st.integers(1, 20_000).map(lambda digits: b"workload = " + b"9" * digits),
)


@fault(
    "Hostile input",
    "`dispatch.toml` holds anything at all: names that lead elsewhere, control characters, brackets without end",
    outcome="nothing is run",
    told="one line with the file, the workload and the key; exit code 4",
)
def test_any_manifest_is_used_or_refused(tmp_path: Path) -> None:
    (tmp_path / "a.efi").write_bytes(b"MZ")
    manifest = tmp_path / "dispatch.toml"

    def check(data: bytes) -> None:
        manifest.write_bytes(data)
        try:
            listing = list_folder(tmp_path, "w")
        except ConfigError as error:
            is_one_line(str(error))
            return
        for each in listing.workloads:
            assert is_name(each.name)
            assert "::" not in each.name
            assert Path(each.payload["location"]).resolve().is_relative_to(tmp_path)
            assert all(0 < limit < math.inf for limit in each.limits.values())

    fuzz("dispatch.toml", 300, check, MANIFESTS)


def test_a_manifest_without_end_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "dispatch.toml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="expected at most 4194304 bytes, got 1099511627776"):
        list_folder(tmp_path, "w")


def test_any_content_type_is_a_workload_s_or_not() -> None:
    marked = [media.content_type for media in BUILT_IN]

    def check(text: str) -> None:
        base = text.partition(";")[0].strip().lower()
        assert (kind_of(text) is not None) == (base in marked)

    types = st.sampled_from([*marked, *(each.upper() for each in marked)])
    fuzz("content types", 300, check, TEXT | st.tuples(TEXT, types, TEXT).map("".join) | types.map("{}; q=1".format))


def test_any_proxy_is_used_or_refused() -> None:
    """And none shows its password, wherever it is in it."""

    def check(scheme: str, text: str, exempt: str) -> None:
        given = f"{scheme}me:s3cr3t{text}@proxy.test"
        try:
            found = proxy_for("https://api.github.com", {"HTTPS_PROXY": given, "NO_PROXY": exempt})
            told = f"{found} {found!r}"
        except ConfigError as error:
            told = str(error)
        assert "s3cr3t" not in told
        assert told.isprintable()

    schemes = st.sampled_from(["", "http://", "https://", "socks5://", "HTTP://", "//", "ftp://", "http:"])
    fuzz("proxies", 300, check, schemes, TEXT | st.sampled_from(["/", "@", "#", "?", ":1", "%", "[", "]"]), TEXT)


#: Dates as HTTP has them, of any year and zone.
DATES = st.tuples(st.integers(1, 40), st.integers(0), st.integers(0)).map(
    lambda parts: f"Mon, {parts[0]} Jan {parts[1]} 00:00:00 +{parts[2]}"
)


def test_any_answer_of_github_is_one_or_is_none() -> None:
    """Whatever it says and wherever its links lead, there is one line about it."""

    def check(answer: object, link: str, status: int, date: str) -> None:
        limit = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1", "Date": date}
        github.fail_next("GET *", status=status, data=answer, headers={"Link": link, **limit})
        told = ""
        with GitHubApi(github.url, None) as api:
            try:
                list(api.pages("/rate_limit", dict[str, object]))
            except GitHubError as error:
                told = str(error)
        assert told.isprintable()
        assert len(told) < 1000

    lines = TEXT.map(lambda text: text.encode("ascii", "replace").decode()).filter(str.isprintable)
    links = st.tuples(lines, lines).map(lambda pair: f'<{pair[0]}>; rel="next"; {pair[1]}')
    rows = st.lists(st.dictionaries(TEXT, st.integers() | TEXT, max_size=2), max_size=2)
    with FakeGitHub() as github:
        data, statuses = rows | rows.map(lambda rows: rows[:1]) | TEXT | st.integers(), st.sampled_from([200, 403, 422])
        fuzz("GitHub's answers", 100, check, data, links | lines, statuses, DATES | lines)


def test_any_text_can_be_shown() -> None:
    def check(text: str) -> None:
        assert acts(plain(text)) - set("\u2028\u2029") <= {char for char in text if ord(char) > 0x9F}
        line = plain_line(text)
        assert len(line) <= 200
        assert len(line.splitlines()) <= 1
        assert not is_name(text) or (acts(text) == set() and len(text) <= LONGEST_NAME)

    fuzz("texts", 500, check, TEXT)


def test_any_case_can_be_written_as_junit(tmp_path: Path) -> None:
    path = tmp_path / "cases.xml"

    def check(name: str, group: str, text: str, outcome: Outcome) -> None:
        write_junit(path, [JunitCase(group=group, name=name, outcome=outcome, seconds=1.0, text=text)])
        [case] = ElementTree.parse(path).iter("testcase")
        shown = "".join([case.get("name", ""), case.get("classname", ""), *case.itertext()])
        assert not set(shown) & set("\x00\x1b\x07\u202e\u2066\u200f")

    fuzz("JUnit files", 100, check, TEXT, TEXT, TEXT, st.sampled_from(list(Outcome)))


NAMES = {
    "leads elsewhere": "../../../outside.efi",
    "is absolute": "/tmp/outside.efi",
    "moves the cursor": "a\x1b[2Jb.efi",
    "turns the direction": "a\u202eife.efi",
    "ends a line": "a\nb.efi",
    "divides node ids": "a::b.efi",
    "is very long": "x" * 10_000 + ".efi",
    "is empty": "",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            id=what,
            marks=fault(
                "Hostile input",
                f"A release has an asset whose name {what}",
                outcome="nothing is run"
                if not is_name(name)
                else "it is shown under that name, and lies in the cache under its digest",
                told="one line with the name, made harmless; exit code 4"
                if not is_name(name)
                else "the name, with `%XX` for what means something in node ids",
            ),
        )
        for what, name in NAMES.items()
    ],
)
@pytest.mark.draw(2)
def test_an_asset_with_a_hostile_name(pytester: pytest.Pytester, forks: Forks, github: FakeGitHub, name: str) -> None:
    github.add_release("me/lab", "v1", {"b.efi": (EFI, b"MZ-b"), name: (EFI, b"MZ-hostile")})
    cache = pytester.path / "deep" / "er" / "cache"
    result = Bench(pytester, forks).fork(
        *("-v", "--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}", "--dispatch-machine=sim?pace=0.001"),
        *("--dispatch-bind=127.0.0.1:0", "--dispatch-no-mdns", f"--dispatch-cache={cache}", "--dispatch-issues=none"),
        *("--junitxml=own.xml", "--dispatch-junit=cases.xml", "-p", "no:cacheprovider", "--dispatch-db=j.db"),
        IN_THREAD,
        *WITHOUT,
    )
    shown = result.stdout.str() + result.stderr.str()
    assert acts(shown) == set()
    assert "Traceback" not in shown
    if is_name(name):
        assert result.parseoutcomes()["passed"] >= 1  # a path may be none that storage has
        assert f"me/lab@v1::{node_name(name)} " in shown
        names = [case.get("name") for case in ElementTree.parse(pytester.path / "cases.xml").iter("testcase")]
        assert names.count(node_name(name)) == 1
    else:
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        [line] = [line for line in result.errlines if line]
        assert len(line) < 1000
    assert all(
        path.name in ("er", "cache") for path in (pytester.path / "deep").glob("**/*") if cache not in path.parents
    )
    assert all(is_name(path.name) and len(path.name) < 80 for path in cache.rglob("*"))
    assert not [*pytester.path.parent.rglob("outside.efi"), *Path("/tmp").glob("outside.efi")]


# In issues


def writes_issues(text: str, case_text: str, name: str, late: bool) -> None:
    said = report(name, body=text, late=late, cases=(case(case_text, Outcome.FAILED, text),))
    holds_filed(run(attempt(1, said, machine=name), name=name or "x"), name)


def test_what_workloads_write_in_issues() -> None:
    """Whatever it is, GitHub's own parser makes nothing of it that calls people, or that hides what the lab says."""
    fuzz("texts of issues", 300, holds, TEXTS | TEXT | st.lists(TEXTS | TEXT, max_size=4).map("".join))
    fuzz("issues", 100, writes_issues, TEXTS, TEXTS, TEXTS | TEXT, st.booleans())
    fuzz("pages of issues", 100, holds_cut, LONG_TEXTS, st.integers(300, 600))
