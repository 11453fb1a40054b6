"""The fixtures: users' own assertions on real boots."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from plugin_bench import ONE, WITHOUT, Bench

pytestmark = pytest.mark.draw(1 / 3, of=__name__)


def test_a_workload_in_a_python_test(bench: Bench) -> None:
    bench.workloads(
        {"a": "pass", "b": "fail", "c": "multi-report", "d": {"scenario": "hang", "report-timeout": "0.3s"}}
    )
    bench.pytester.makepyfile(
        test_own="""
        import pytest
        from pytest_dispatch import DispatchLab, DispatchWorkload, State

        @pytest.mark.dispatch("a.efi")
        def test_boots(dispatch_workload: DispatchWorkload, dispatch_lab: DispatchLab):
            assert dispatch_workload.name == "a.efi"
            assert dispatch_workload.machine in {machine.name for machine in dispatch_lab.machines}
            states = [moment.state for moment in dispatch_workload.timeline]
            assert states[:5] == ["unassigned", "assigned", "downloading", "downloaded", State.BOOTING]
            report = dispatch_workload.report()
            assert report.result == "passed"
            assert dispatch_workload.reports == (report,)
            assert [case.name for case in report.cases] == ["memory", "network"]
            assert any("POST" in line for line in dispatch_workload.console)
            assert dispatch_lab.workloads == ["a.efi", "b.efi", "c.efi", "d.efi"]
            assert dispatch_lab.url.startswith("http://127.0.0.1:")

        @pytest.mark.dispatch(workload="b.efi")
        def test_its_own_verdict(dispatch_workload):
            assert dispatch_workload.report().result == "failed"

        names = [pytest.param(name, marks=pytest.mark.dispatch(name)) for name in ("a.efi", "b.efi")]

        @pytest.mark.parametrize("name", names)
        def test_each(dispatch_workload, name):
            assert dispatch_workload.name == name

        @pytest.mark.dispatch("c.efi")
        def test_of_many_reports(dispatch_workload):
            dispatch_workload.report()

        @pytest.mark.dispatch("d.efi")
        def test_silence(dispatch_workload):
            dispatch_workload.report()

        @pytest.mark.dispatch("a.efi")
        def test_asked_for_late(request):
            assert request.getfixturevalue("dispatch_workload").report()
        """
    )
    result = bench.run("test_own.py", "-v", "--junitxml=own.xml", machines="--dispatch-machine=sim:3?pace=0.001")
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_own.py::test_silence - no report 0.3s after it booted on sim-?"])
    facts = {
        case.get("name"): {entry.get("name"): entry.get("value") for entry in case.iter("property")}
        for case in ElementTree.parse(bench.path / "own.xml").getroot().iter("testcase")
    }
    assert facts["test_boots"]["dispatch_outcome"] == "passed"
    assert facts["test_of_many_reports"]["dispatch_outcome"] == "passed"  # it was waited for
    assert facts["test_silence"]["dispatch_outcome"] == "failed"
    assert facts["test_each[a.efi]"]["dispatch_machine"]


def test_what_it_cannot_do_without(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makepyfile(
        test_own="""
        import pytest

        def test_without_a_mark(dispatch_workload): pass

        @pytest.mark.dispatch
        def test_without_a_name(dispatch_workload): pass

        @pytest.mark.dispatch("z.efi")
        def test_unknown(dispatch_workload): pass
        """
    )
    result = bench.run("test_own.py")
    result.assert_outcomes(errors=3)
    assert result.stdout.str().count('dispatch_workload needs a workload: @pytest.mark.dispatch("NAME")') == 2
    result.stdout.fnmatch_lines(["no workload 'z.efi' in w; it has: a.efi"])


def test_without_a_source(bench: Bench) -> None:
    bench.pytester.makepyfile(
        test_own="""
        def test_workload(dispatch_workload): pass
        def test_lab(dispatch_lab): pass
        """
    )
    result = bench.pytester.runpytest_inprocess(*WITHOUT)
    result.assert_outcomes(errors=2)
    needs = (
        "needs a source of workloads: give --dispatch-repo OWNER/REPO, --dispatch-dir DIR or --dispatch-actions FILE"
    )
    result.stdout.fnmatch_lines([f"dispatch_workload {needs}", f"dispatch_lab {needs}"])
    assert "Traceback" not in result.stdout.str()
    assert "fixtures.py" not in result.stdout.str()


def test_what_a_mark_expects(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "no-boot"})
    bench.pytester.makepyfile(
        test_own="""
        import pytest

        @pytest.mark.dispatch("a.efi", expect="boot")
        def test_boot(dispatch_workload):
            assert dispatch_workload.run.outcome == "passed"

        @pytest.mark.dispatch("a.efi", expect="boot")
        def test_report(dispatch_workload):
            dispatch_workload.report()

        @pytest.mark.dispatch("b.efi", expect="return")
        def test_return(dispatch_workload):
            assert dispatch_workload.run.outcome == "passed"
        """
    )
    result = bench.run("test_own.py")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["a.efi ended without a report, as expect=boot allows", "*🏁 finished*"])
    result.stdout.fnmatch_lines(
        ["last console lines", "*NBP filesize*", "FAILED *::test_report - a.efi ended without*"]
    )


def test_what_is_shown_where_one_fails(bench: Bench) -> None:
    """The handles in a few words; and where it was the workload that failed, what its machine showed last."""
    bench.workloads({"a": "fail", "b": {"scenario": "hang", "report-timeout": "0.3s"}})
    bench.pytester.makepyfile(
        test_own="""
        import pytest

        @pytest.mark.dispatch("a.efi")
        def test_assertion(dispatch_workload, dispatch_lab):
            dispatch_workload.report()
            assert (dispatch_workload, dispatch_lab) == ()

        @pytest.mark.dispatch("b.efi")
        def test_silence(dispatch_workload):
            dispatch_workload.report()
        """
    )
    result = bench.run("test_own.py", "-vv", "--showlocals")
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert re.search(r"dispatch_workload *= <DispatchWorkload a\.efi: \w+ on sim-[12]>\n", text)
    assert re.search(r"dispatch_lab *= <DispatchLab http://127\.0\.0\.1:[0-9]+>\n", text)
    assert "LabSession(" not in text
    result.stdout.fnmatch_lines(["no report 0.3s after it booted on sim-?", "last console lines", "*POST*"])
    assertion = text.partition("_ test_assertion _")[2].partition("_ test_silence _")[0]
    assert "Captured dispatch teardown" in assertion
    assert "last console lines" in assertion


def test_a_mark_on_an_item(bench: Bench) -> None:
    bench.workloads({"a": "no-boot"})
    bench.pytester.makeconftest(
        """
        import pytest

        def pytest_itemcollected(item):
            item.add_marker(pytest.mark.dispatch(expect="return"))
        """
    )
    bench.run().assert_outcomes(passed=1)


@pytest.mark.parametrize("distributed", [(), ("-n", "1")], ids=["alone", "xdist"])
@pytest.mark.draw(1)
def test_a_mark_that_expects_what_there_is_not(bench: Bench, distributed: tuple[str, ...]) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makepyfile(
        test_own="""
        import pytest

        @pytest.mark.dispatch("a.efi", expect="luck")
        def test_luck(dispatch_workload): pass

        @pytest.mark.dispatch("a.efi", exspect="boot")
        def test_misspelt(dispatch_workload): pass
        """
    )
    result = bench.spawn("test_own.py", *distributed)
    result.assert_outcomes(errors=2)
    text = result.stdout.str().partition("short test summary")[0]
    assert text.count("mark dispatch: expected expect= one of report, boot, return, got 'luck'") == 1
    assert text.count("got ('a.efi', exspect='boot'): got an unexpected keyword argument 'exspect'") == 1
    assert "During handling" not in text


def test_a_lab_fault_is_an_error_wherever_it_is_found(bench: Bench) -> None:
    bench.workloads({"a": "no-boot", "b": "pass", "c": "pass"})
    bench.pytester.makeconftest(
        """
        import sqlite3
        from contextlib import closing

        def pytest_dispatch_event(run, event):
            if event == "boot" and run.workload.name == "b.efi":
                with closing(sqlite3.connect("j.db")) as db, db:
                    db.execute("DROP TABLE dispatch_moments")
        """
    )
    bench.pytester.makepyfile(
        test_own="""
        import pytest

        @pytest.mark.dispatch("a.efi")
        def test_never_booted(dispatch_workload): pass

        @pytest.mark.dispatch("b.efi")
        def test_the_lab_breaks(dispatch_workload, dispatch_lab):
            while True:
                dispatch_lab.machines

        @pytest.mark.dispatch("c.efi")
        def test_there_is_no_lab(dispatch_workload): pass
        """
    )
    result = bench.run("test_own.py", "-k", "never", "--dispatch-retries=0")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*_ ERROR at setup of test_never_booted _*",
            "ERROR test_own.py::test_never_booted - sim-? never booted it: *",
        ]
    )
    result = bench.run("test_own.py", "-k", "not never", "--dispatch-db=j.db", machines=ONE)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        [
            "*_ ERROR at setup of test_the_lab_breaks _*",
            "*_ ERROR at setup of test_there_is_no_lab _*",
            "ERROR test_own.py::test_the_lab_breaks - journal *",
            "ERROR test_own.py::test_there_is_no_lab - journal *",
        ]
    )
