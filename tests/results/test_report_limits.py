"""What reports may hold, field by field and together; and what a real lab's process and its disk take of it."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from faults import fault
from labs import plan, workload
from torture import larger

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.core.attempts import VOLUME
from pytest_dispatch.core.model import Case, Outcome, Policy, Report
from pytest_dispatch.plugin.lab_process import LabProcess
from pytest_dispatch.results.report_limits import LINE, MESSAGE, NAME, NAMES, VolumeError, measured
from pytest_dispatch.server.api.route import PREFIX
from pytest_dispatch.server.api.schemas import OpenSession, RunRequest
from pytest_dispatch.server.boot.beacon import REPORT_LIMIT

MiB = 2**20
FAILED = Outcome.FAILED


@pytest.mark.parametrize(
    ("most", "more", "why"),
    [
        ({"title": "t" * LINE}, {"title": "t" * (LINE + 1)}, "10,000 characters of `title`, got 10,001"),
        ({"milestone": "m" * NAME}, {"milestone": "m" * (NAME + 1)}, "1,000 characters of `milestone`, got 1,001"),
        ({"labels": ["l"] * NAMES}, {"labels": ["l"] * (NAMES + 1)}, "1,000 `labels`, got 1,001"),
        ({"labels": ["l" * NAME]}, {"labels": ["", "l" * 5000]}, "1,000 characters of one of `labels`, got 5,000"),
        ({"assignees": ["a"] * NAMES}, {"assignees": ["a"] * 2000}, "1,000 `assignees`, got 2,000"),
        ({"assignees": ["a" * NAME]}, {"assignees": ["a" * 1001]}, "1,000 characters of one of `assignees`, got 1,001"),
        (
            {"cases": [{"name": "c" * LINE}]},
            {"cases": [{"name": "c"}, {"name": "c" * 20_000}]},
            "10,000 characters of a case's `name`, got 20,000",
        ),
    ],
)
def test_each_field_has_a_bound_of_its_own(most: dict[str, object], more: dict[str, object], why: str) -> None:
    def report(fields: dict[str, object]) -> Report:
        cases = [{"outcome": "passed", **case} for case in fields.get("cases", ())]  # type: ignore[attr-defined]
        return msgspec.convert({"title": "t", **fields, "cases": cases}, Report)

    assert measured(report(most)) == report(most)
    with pytest.raises(VolumeError) as caught:
        measured(report(more))
    assert str(caught.value) == f"expected at most {why}"


def test_the_message_of_a_case_is_cut_and_says_so() -> None:
    whole, long = Case(name="a", outcome=FAILED, message="x" * MESSAGE), "y" * MESSAGE + "1,234"
    kept = measured(Report(title="", cases=(whole, Case(name="b", outcome=FAILED, message=long)))).cases
    assert kept[0] == whole
    assert kept[1].message == "y" * MESSAGE + "\n… 5 more characters"


@pytest.mark.parametrize(
    "report",
    [
        Report(title="x" * 9000),
        Report(title="", body="x" * MiB),
        Report(title="", body="🦊" * MiB),
        Report(title="", body="\1" * MiB),  # six times as long in the journal
        Report(title="", junit="x" * MiB, tap="y" * MiB),
        Report(title="", labels=tuple(f"label {n}" for n in range(1000))),
        Report(title="", cases=tuple(Case(name="", outcome=FAILED) for _ in range(10_000))),
        Report(title="", cases=(Case(name="", outcome=FAILED, message="x" * MiB),)),
    ],
    ids=lambda report: max((len(str(getattr(report, f))), f) for f in report.__slots__)[1],
)
def test_everything_that_a_report_holds_counts(report: Report) -> None:
    size = measured(report).size
    assert size >= len(msgspec.json.encode(report))
    texts = (report.title, report.body, report.junit, report.tap)
    wide = max(max(map(ord, text), default=0) for text in texts) > 0xFFFF
    assert size >= sum(map(len, texts)) * (4 if wide else 1)
    assert size >= 100 * len(report.cases) + 50 * len(report.labels)


def hostile() -> Iterator[bytes]:
    """Reports as long as any may be, each fuller of something else than the last."""
    unit = json.dumps({"name": "", "outcome": "failed"})
    labels = ["l" * NAME] * NAMES
    texts: dict[str, object] = {"labels": labels, "assignees": labels, "milestone": "m" * NAME}
    for n in itertools.count():
        texts["title"] = f"{n}"
        yield json.dumps({**texts, "cases": json.loads(f"[{','.join([unit] * 90_000)}]")}).encode()
        yield json.dumps({**texts, "cases": [{"name": "c", "message": "m" * MiB, "outcome": "failed"}] * 14}).encode()
        yield json.dumps({**texts, "body": "\1" * (2 * MiB)}).encode()
        yield json.dumps({**texts, "body": "🦊" + "x" * (8 * MiB)}).encode()


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]) * 1024


def lab_pid() -> int:
    """Of the lab's process that this one has started."""
    [pid] = [
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
        if b"pytest_dispatch.lab_program.child_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return pid


class Reader(threading.Thread):
    """Reads a session's event stream to its end, and counts its bytes."""

    def __init__(self, client: LabClient, lab: LabProcess, session: str) -> None:
        super().__init__()
        self.told = 0
        self._url = f"{client.url}{PREFIX}/sessions/{session}/events"
        self._headers = {"Authorization": f"Bearer {lab.token}"}
        self.start()

    def run(self) -> None:
        with httpx.stream("GET", self._url, headers=self._headers, timeout=60) as stream:
            for piece in stream.iter_raw():
                self.told += len(piece)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="measures by /proc, as Linux has it")
@fault(
    "Hostile input",
    "a workload sends report after report, full of labels, cases, or characters that take much room",
    outcome="what came before counts; memory and disk stay bounded",
    told="413: at most 64 MiB in all reports of one boot",
)
@pytest.mark.draw(2, of="as much as may come")
def test_what_one_boot_may_fill_is_bounded(tmp_path: Path) -> None:
    lab = LabProcess(plan(tmp_path))
    lab.start("w")
    client = LabClient(lab.url, lab.token)
    try:
        session = client.open(OpenSession(source="w", policy=Policy())).id
        [view] = client.submit(session, [RunRequest(key="k", workload=workload(tmp_path / "a.efi"))])
        agent = {"User-Agent": "UefiHttpBoot/1.0"}
        wire = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(transport=wire, headers=agent, timeout=60) as machine:
            machine.get(f"{lab.url}/dispatch").raise_for_status()
            machine.post(f"{lab.url}/dispatch").raise_for_status()
            reader = Reader(client, lab, session)
            before, answers = resident(lab_pid()), list[httpx.Response]()
            for data, _ in zip(hostile(), range(larger(12, 24)), strict=False):
                assert len(data) <= REPORT_LIMIT
                answers.append(machine.put(f"{lab.url}/dispatch", content=data))
            small = [{"title": f"small {n}"} for n in range(80)]
            answers += [machine.put(f"{lab.url}/dispatch", json=each) for each in small]
            after = resident(lab_pid())
        assert {answer.status_code for answer in answers} == {200, 413}
        assert {a.text for a in answers if a.status_code == 413} == {
            "expected at most 1000 reports of one boot, and 64 MiB in all of them\n"
        }
        taken = client.run(view.run.id).run.attempt.reports
        assert len(taken) == sum(answer.status_code == 200 for answer in answers)
        assert sum(report.size for report in taken) <= VOLUME
        # beside it, what was read and refused, and the allocator has not given back
        assert after - before < 5 * VOLUME
        client.end(session)
    finally:
        client.close()
        lab.stop()
    reader.join()
    assert reader.told < VOLUME  # no case twice, whatever came after it
    assert sum(file.stat().st_size for file in tmp_path.glob("journal.db*")) < 1.2 * VOLUME
