"""The text of GitHub issues."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from rendering import holds_filed
from told_runs import DIGEST, NEVER_BOOTED, WELL, attempt, case, moments, report, run

from pytest_dispatch.core.model import Outcome
from pytest_dispatch.github.issue_text import (
    ISSUES,
    LIMIT,
    NO_MORE,
    PAGES,
    TITLE_LIMIT,
    TOO_LONG,
    issues_for,
    late_issues,
)
from pytest_dispatch.github.markdown_fences import ZERO_WIDTH
from pytest_dispatch.results.run_cases import durations
from pytest_dispatch.workloads.boot.lifecycle import State

PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED
SOURCE = "AMDEPYC/dispatch@v1"
HEAD = "---\n<details open><summary>Recorded by the lab</summary>\n\n"
FOOTER = f"""\
{HEAD}- workload: `snp.efi` of AMDEPYC/dispatch@v1
- digest: `{DIGEST}`
- machine: `10.0.0.7`
- outcome: passed, attempt 1 of 1
- states: unassigned 2s, assigned 0.5s, downloading 10s, downloaded 28s, booting 1m, reported 1m
- ended: 2026-01-01 12:02:40 UTC

</details>"""


def test_what_was_reported_and_a_footer() -> None:
    said = report(
        "  Certified:\n level 3 ",
        body="It works.\n\n",
        labels=("certificate", "os-debian"),
        assignees=("larry",),
        milestone="c1.2.3-4",
    )
    (issue,) = issues_for(run(attempt(1, said)), SOURCE, DIGEST)
    assert issue.title == "Certified: level 3"
    assert issue.body == f"It works.\n\n{FOOTER}"
    assert (issue.labels, issue.assignees, issue.milestone) == (said.labels, said.assignees, said.milestone)
    assert re.fullmatch("dispatch-c0ffee\\.4-0-[0-9a-f]{16}", issue.marker)
    assert issue.comments == ()


def test_one_for_each_report_of_each_attempt_but_late_ones() -> None:
    first = attempt(1, report("one"), report("two"), machine="10.0.0.1", outcome=FAILED)
    last = attempt(2, report("three"), report("four", late=True))
    issues = issues_for(run(first, last), SOURCE, DIGEST)
    assert [issue.title for issue in issues] == ["one", "two", "three"]
    assert [issue.marker.rpartition("-")[0] for issue in issues] == [f"dispatch-c0ffee.4-{n}" for n in range(3)]
    assert "machine: `10.0.0.1`\n- outcome: failed, attempt 1 of 2" in issues[1].body
    assert "machine: `10.0.0.7`\n- outcome: passed, attempt 2 of 2" in issues[2].body


def test_of_more_reports_than_there_may_be_issues_the_last_one_has_the_titles() -> None:
    def titles(count: int) -> list[str]:
        said = attempt(1, *(report(f"report {n}\n@all", labels=("l",)) for n in range(count)))
        issues = issues_for(run(said), SOURCE, DIGEST)
        [last] = issues[ISSUES - 1 :]
        listed = [line.replace(ZERO_WIDTH, "") for line in last.body.splitlines() if line.startswith("- report")]
        assert listed == [f"- report {n} @all" for n in range(ISSUES - 1, count) if count > ISSUES]
        assert "@all" not in last.body
        assert last.body.endswith(FOOTER)
        return [issue.title.replace(ZERO_WIDTH, "") for issue in issues]

    assert titles(ISSUES) == [f"report {n} @all" for n in range(ISSUES)]
    assert titles(1000) == [*(f"report {n} @all" for n in range(ISSUES - 1)), "snp.efi: 901 further reports"]


@pytest.mark.parametrize(
    ("outcome", "title"),
    [
        (FAILED, "snp.efi failed"),
        (ERROR, "snp.efi could not be run"),
        (PASSED, "snp.efi passed"),
        (SKIPPED, "snp.efi was skipped"),
    ],
)
def test_without_a_report_it_says_so_itself(outcome: Outcome, title: str) -> None:
    silent = attempt(history=NEVER_BOOTED, outcome=outcome, reason="no boot beacon 15m after the last byte")
    (issue,) = issues_for(run(silent), SOURCE, DIGEST)
    assert issue.title == title
    assert issue.body.startswith("No boot beacon 15m after the last byte.\n\n---\n<details")


def test_without_a_reason_there_is_no_sentence() -> None:
    (issue,) = issues_for(run(attempt()), SOURCE, DIGEST)
    assert issue.body == FOOTER


def test_late_reports_alone_are_none() -> None:
    late = attempt(1, report("too late", late=True), outcome=FAILED, reason="no report")
    assert [issue.title for issue in issues_for(run(late), SOURCE, "")] == ["snp.efi failed"]


def test_a_late_report_is_an_issue_with_all_that_is_its_own_and_says_so() -> None:
    said = report("at last", body="# It works", labels=("certificate",), assignees=("moe",), milestone="c1", late=True)
    first = attempt(1, replace(said, title="of the first", at=0.0), history=NEVER_BOOTED, outcome=ERROR)
    last = attempt(2, report(), replace(said, at=WELL[-1].at + 720))
    made = run(first, last)
    one, two = late_issues(made, SOURCE, DIGEST)
    assert (one.title, two.title, two.labels, two.assignees) == ("of the first", "at last", said.labels, said.assignees)
    assert two.milestone == "c1"
    line = "> This report came 12m after the attempt had ended. The outcome stays as it was.\n\n# It works\n\n---\n"
    assert two.body.startswith(line)
    assert "- outcome: passed, attempt 2 of 2\n" in two.body
    assert len({issue.marker for issue in (one, two, *issues_for(made, SOURCE, DIGEST))}) == 3
    assert [issue.title for issue in late_issues(made, SOURCE, DIGEST, known=1)] == [two.title]


def test_late_reports_are_not_filed_for_ever() -> None:
    made = run(attempt(1, *(report(f"late {n}", late=True) for n in range(ISSUES + 1)), outcome=FAILED, reason="none"))
    *others, last = late_issues(made, SOURCE, DIGEST)
    assert len(others) == ISSUES - 1
    assert not any(NO_MORE.strip() in issue.body for issue in others)
    assert NO_MORE.strip() in last.body
    assert not late_issues(made, SOURCE, DIGEST, known=ISSUES)


def test_a_run_that_no_machine_took() -> None:
    history = moments((State.UNASSIGNED, 0), (State.FAILED, 1800))
    nobody = attempt(machine="", history=history, outcome=ERROR, reason="no machine took it")
    (issue,) = issues_for(run(nobody), SOURCE, "")
    assert issue.body == (
        f"No machine took it.\n\n{HEAD}- workload: `snp.efi` of AMDEPYC/dispatch@v1\n- machine: none\n"
        "- outcome: error, attempt 1 of 1\n- states: unassigned 30m\n- ended: 2026-01-01 12:30:00 UTC\n\n</details>"
    )


def test_an_outcome_that_the_session_has_just_given() -> None:
    """The attempt itself has none yet when the session's hook sees the issue."""
    (issue,) = issues_for(run(attempt(1, report(), outcome=None), outcome=SKIPPED), SOURCE, "")
    assert "- outcome: skipped, attempt 1 of 1" in issue.body


def test_cases_that_did_not_pass_in_a_table() -> None:
    cases = (
        case("boot", PASSED),
        case("attest|launch", FAILED, "expected 0\n got  1 | 2 \\"),
        case("migrate", SKIPPED, "one host"),
    )
    (issue,) = issues_for(run(attempt(1, report(cases=cases))), SOURCE, DIGEST)
    assert issue.body == (
        "1 of 3 cases passed:\n\n| case | outcome | message |\n| --- | --- | --- |\n"
        "| attest\\|launch | failed | expected 0 got 1 \\| 2 \\\\ |\n| migrate | skipped | one host |\n\n" + FOOTER
    )


def test_cases_that_all_passed_are_counted() -> None:
    (issue,) = issues_for(
        run(
            attempt(1, report(cases=(case("a", PASSED), case("b", PASSED)))),
        ),
        SOURCE,
        DIGEST,
    )
    assert issue.body == f"2 of 2 cases passed.\n\n{FOOTER}"


def test_a_title_that_is_empty_or_too_long() -> None:
    said = (report(" \n "), report("x" * TITLE_LIMIT), report("y" * (TITLE_LIMIT + 1)))
    titles = [issue.title for issue in issues_for(run(attempt(1, *said)), SOURCE, DIGEST)]
    assert titles == ["snp.efi", "x" * TITLE_LIMIT, "y" * (TITLE_LIMIT - 1) + "…"]


@pytest.mark.parametrize("line", ["", "a line of the log\n"])
def test_a_long_body_goes_on_in_comments(line: str) -> None:
    body = (line * 16_000 or "x" * 300_000).rstrip()
    (issue,) = issues_for(run(attempt(1, report(body=body))), SOURCE, DIGEST)
    pieces = [issue.body, *issue.comments]
    assert "".join(pieces).replace(ZERO_WIDTH, "") == f"{body}\n\n{FOOTER}"
    assert len(pieces) == -(-len(body) // LIMIT)
    assert all(len(piece) <= LIMIT for piece in pieces)
    assert all(piece.endswith("\n") for piece in pieces[:-1]) is bool(line)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("body", ["x" * 10_000_000, "@" * PAGES * (LIMIT - 500), "```\n" * 3_000_000])
def test_a_body_that_is_too_long_for_comments_is_cut_and_says_so(body: str, raw: bool) -> None:
    (issue,) = issues_for(run(attempt(1, report(body=body, cases=(case("a", FAILED, body),)))), SOURCE, DIGEST, raw=raw)
    assert len(issue.comments) == PAGES - 1
    assert all(len(page) <= LIMIT for page in (issue.body, *issue.comments))
    assert issue.comments[-1] == f"{TOO_LONG}\n\n{FOOTER}"


def test_a_body_that_just_fits() -> None:
    room = LIMIT - len(f"\n\n{FOOTER}")
    just, more = (issues_for(run(attempt(1, report(body="x" * n))), SOURCE, DIGEST)[0] for n in (room, room + 1))
    assert (len(just.body), just.comments) == (LIMIT, ())
    assert len(more.comments) == 1


ATTACK = "\ufeff```\nlog\n```\n@victim @org/team closes octo/repo#2 …<!--\n```\n"


def test_a_page_that_is_cut_at_a_byte_order_mark_is_as_harmless() -> None:
    whole = run(attempt(1, report(body="x" * 100_000)))
    room = len(issues_for(whole, SOURCE, DIGEST)[0].body)
    for lead in (room - 1, room - 4, room // 2, 0):
        made = run(attempt(1, report(body=f"{'x' * max(0, lead - 1)}\n{ATTACK}{'y ' * 40_000}")))
        holds_filed(made, SOURCE)
        if lead == room - 1:
            assert issues_for(made, SOURCE, DIGEST)[0].comments[0].startswith("```\nlog\n")


def test_seconds_per_state_are_summed_where_one_was_entered_again() -> None:
    assert durations(run(attempt(history=NEVER_BOOTED))) == [
        ("unassigned", 2.0),
        ("assigned", 0.5),
        ("downloading", 10.0),
        ("downloaded", 900.0),
    ]


def test_seconds_per_state_are_those_of_the_last_attempt() -> None:
    first = attempt(1, history=NEVER_BOOTED)
    assert durations(run(first, replace(attempt(2), history=NEVER_BOOTED[:2]))) == [("unassigned", 2.0)]


CALLING = "Fixes #1, @larry:\n<!-- and </details>\n```\n@decorator"


def test_what_a_workload_writes_calls_nobody() -> None:
    said = report(f"{CALLING} in the title", body=CALLING, cases=(case("#2", FAILED, "by @moe <b>"),))
    (issue,) = issues_for(run(attempt(1, said)), "me/@curly", DIGEST)
    text = issue.body.replace(ZERO_WIDTH, "_")
    assert text.startswith("Fixes #_1, @_larry:\n<_!-- and <_/details>\n```\n@decorator\n```\n\n0 of 1 cases passed:")
    assert "| #_2 | failed | by @_moe <_b> |" in text
    assert "`snp.efi` of me/@_curly\n" in text
    assert issue.title.replace(ZERO_WIDTH, "_").startswith("Fixes #_1, @_larry: <_!-- and")


def test_without_a_report_the_lab_s_own_words_call_nobody() -> None:
    silent = attempt(history=NEVER_BOOTED, outcome=ERROR, reason="it said @larry")
    (issue,) = issues_for(run(silent), SOURCE, DIGEST)
    assert issue.body.startswith(f"It said @{ZERO_WIDTH}larry.")


def test_raw_text_is_left_alone() -> None:
    said = report(CALLING, body=CALLING, cases=(case("#2", FAILED, "by @moe"),))
    (issue,) = issues_for(run(attempt(1, said)), SOURCE, DIGEST, raw=True)
    assert issue.title == " ".join(CALLING.split())
    assert issue.body.startswith(f"{CALLING}\n\n0 of 1 cases")
    assert "| #2 | failed | by @moe |" in issue.body


def test_a_name_with_backticks_ends_no_code() -> None:
    made = run(attempt(1, report("t")))
    made = replace(made, workload=replace(made.workload, name="a`` @b.efi"))
    (issue,) = issues_for(made, SOURCE, DIGEST)
    assert "- workload: ``` a`` @b.efi ``` of" in issue.body


def test_nobody_can_know_a_marker_before() -> None:
    markers = {issues_for(run(attempt(1, report())), SOURCE, "")[0].marker for _ in range(50)}
    assert len(markers) == 50
