"""Workloads are all that pytest promises of an item: fixtures, ids, marks, and a boot for each time one is counted."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from plugin_bench import WITHOUT, Bench, plays

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

ODD = ("br[1]-x", "[a]", "x]y", "<i>&'\"", "50%5B", "back\\slash", "wi th ünïcödé", ":colon:", "a::b:::c")


def ids(result: pytest.RunResult, outcome: str = "PASSED") -> list[str]:
    return re.findall(rf"(?m)^(w::.*?) {outcome} ", result.stdout.str())


def boots(result: pytest.RunResult) -> list[str]:
    return sorted(re.findall(r"📥 (\S+) assigned on", result.stdout.str()))


# Fixtures


@pytest.mark.parametrize("scope", ["session", "package", "module", "class", "function"])
@pytest.mark.parametrize("how", ["autouse", "usefixtures"])
@pytest.mark.draw(3)
def test_fixtures_of_all_scopes(bench: Bench, scope: str, how: str) -> None:
    bench.workloads({"a": "pass", "b": "pass"})
    bench.pytester.makeconftest(
        f"""
        import pytest

        @pytest.fixture(scope="{scope}", autouse={how == "autouse"})
        def around(request):
            print("BEGIN", request.node.nodeid)
            yield
            print("END")
        """
    )
    if how == "usefixtures":
        bench.pytester.makeini("[pytest]\nusefixtures = around\n")
    result = bench.spawn("-s")
    result.assert_outcomes(passed=2)
    per_item = scope in ("class", "function")
    assert result.stdout.str().count("BEGIN") == result.stdout.str().count("END") == (2 if per_item else 1)


def test_a_fixture_with_parameters_boots_each_workload_for_each(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "fail"})
    bench.pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="module", autouse=True, params=["cold", "warm"])
        def power(request):
            return request.param
        """
    )
    result = bench.spawn("-v")
    assert ids(result) == ["w::a.efi[cold]", "w::a.efi[warm]"]
    assert boots(result) == ["a.efi", "a.efi", "b.efi", "b.efi"]
    assert ids(bench.spawn("-v", "w::a.efi")) == ["w::a.efi[cold]", "w::a.efi[warm]"]
    assert ids(bench.spawn("-v", "w::a.efi[warm]")) == ["w::a.efi[warm]"]
    wrong = bench.spawn("w::a.efi[hot]", "w::b.efi")
    wrong.stdout.fnmatch_lines(["not found: w::a.efi[[]hot] (it has: a.efi[[]cold], a.efi[[]warm], *)"])
    assert wrong.ret == pytest.ExitCode.INTERRUPTED


def test_what_hooks_of_others_ask_of_an_item(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(
        """
        import inspect
        from pathlib import Path

        def pytest_runtest_setup(item):
            assert item.module.__name__ == "w"
            assert Path(item.module.__file__) == item.config.rootpath / "w"
            assert (item.cls, item.instance) == (None, None)
            assert item.function.__doc__ and inspect.getsource(item.function)
            assert item.originalname == item.name == "a.efi"
            assert item.path.exists() and item.getparent(type(item.parent)) is item.parent
            assert not hasattr(item, "callspec") and item.fixturenames
            assert item.location[0] == "w"

        def pytest_generate_tests(metafunc):
            assert metafunc.definition.name == "a.efi" and metafunc.module.__name__ == "w"
        """
    )
    bench.run().assert_outcomes(passed=1)


def test_words_of_python_select_no_workload(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    for word in ("signature", "test", "wrapped"):
        assert bench.run("-k", word).ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_items_of_another_plugin_are_refused(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(
        """
        import pytest

        class Mine(pytest.Function):
            pass

        def pytest_pycollect_makeitem(collector, name, obj):
            return [Mine.from_parent(collector, name=name)]
        """
    )
    result = bench.run()
    result.stdout.fnmatch_lines(["a.efi: expected an item of pytest's own, got another plugin's <Mine a.efi>"])
    assert result.ret == pytest.ExitCode.INTERRUPTED


# Ids


@pytest.fixture
def odd(bench: Bench) -> Bench:
    """A bench with workloads of odd names, every other of which fails."""
    folder = bench.path / "w"
    folder.mkdir()
    table = "[[workload]]\nname = {}\nfile = {}\n"
    lines = []
    for number, name in enumerate(ODD):
        plays(folder / f"{number}.efi", "fail" if number % 2 else "pass")
        lines.append(table.format(json.dumps(name, ensure_ascii=False), f'"{number}.efi"'))
    (folder / "dispatch.toml").write_text("".join(lines))
    return bench


def collected(bench: Bench, *words: str) -> list[str]:
    """The ids that pytest shows of what it collects."""
    return [line for line in bench.spawn("--collect-only", "-q", *words).outlines if line.startswith("w::")]


@pytest.mark.parametrize("workers", [(), ("-n2", "-p", "xdist")], ids=["alone", "xdist"])
@pytest.mark.draw(1)
def test_one_id_and_one_test_case_for_any_name(odd: Bench, workers: tuple[str, ...]) -> None:
    first = odd.spawn("--junitxml=j.xml", "-rA", *workers)
    shown = set(re.findall(r"(?m)^(?:PASSED|FAILED) (w::.*?)(?: - .*)?$", first.stdout.str()))
    assert shown == set(collected(odd))
    assert len(shown) == len(ODD)
    cases = list(ElementTree.parse(odd.path / "j.xml").getroot().iter("testcase"))
    assert {f"{case.get('classname')}::{case.get('name')}" for case in cases} == shown
    assert len(cases) == len(ODD)
    assert len(set(collected(odd, "--lf"))) == len(ODD) // 2


def test_any_name_and_any_id_choose_one(odd: Bench) -> None:
    """Both as they are, and as pytest shows them."""
    shown = [node_id.removeprefix("w::") for node_id in collected(odd)]
    for given in dict.fromkeys([*ODD, *shown]):
        assert len(collected(odd, f"w::{given}")) == 1


# Marks


def test_the_mark_takes_its_arguments_by_position_too(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makepyfile(
        test_own="""
        import pytest

        @pytest.mark.dispatch("a.efi", "boot")
        def test_boot(dispatch_workload):
            assert dispatch_workload.run.expect == "boot"
        """
    )
    bench.run("test_own.py").assert_outcomes(passed=1)


def test_a_mark_boots_its_workload_without_the_fixture_too(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "no-boot"})
    bench.pytester.makepyfile(
        test_own="""
        import pytest, unittest

        @pytest.mark.dispatch("a.efi")
        def test_boots(): pass

        @pytest.mark.dispatch("b.efi")
        def test_never_boots(): pass

        @pytest.mark.dispatch("z.efi")
        def test_misspelt(): pass

        @pytest.mark.dispatch
        def test_nameless(): pass

        @pytest.mark.dispatch("a.efi")
        class TestOldStyle(unittest.TestCase):
            def test_boots(self): pass
        """
    )
    result = bench.spawn("test_own.py", "-v", "--dispatch-retries=0")
    result.assert_outcomes(passed=2, errors=3)
    assert set(boots(result)) == {"a.efi", "b.efi"}
    assert boots(result).count("a.efi") == 2
    result.stdout.fnmatch_lines(["no workload 'z.efi' in w; it has: a.efi, b.efi"])
    nowhere = bench.pytester.runpytest_inprocess("-k", "test_boots or misspelt", *WITHOUT)
    nowhere.assert_outcomes(errors=3)


def test_a_mark_on_what_takes_no_fixtures(bench: Bench) -> None:
    bench.pytester.makeconftest(
        """
        import pytest

        class Plain(pytest.Item):
            def runtest(self): pass

        class File(pytest.File):
            def collect(self):
                yield Plain.from_parent(self, name="plain")

        def pytest_collect_file(file_path, parent):
            if file_path.suffix == ".plain":
                return File.from_parent(parent, path=file_path)

        def pytest_itemcollected(item):
            item.add_marker(pytest.mark.dispatch("a.efi"))
        """
    )
    (bench.path / "x.plain").touch()
    expected = "x.plain::plain: mark dispatch: expected a test that takes fixtures; remove the mark"
    assert expected in bench.pytester.runpytest_inprocess(*WITHOUT).stderr.str()


@pytest.mark.parametrize(
    ("marks", "told"),
    [
        (["'a.efi'", "'b.efi'"], "mark dispatch: expected one workload, got 'b.efi' and 'a.efi'; remove one"),
        (["'a.efi', 'boot'", "expect='report'"], "expected one expect, got 'report' and 'boot'; remove one"),
        (["'a.efi', 'boot', 3"], "got ('a.efi', 'boot', 3): too many positional arguments"),
        (["'a.efi', workload='b.efi'"], "got ('a.efi', workload='b.efi'): multiple values for argument 'workload'"),
        (["3"], "mark dispatch: expected the name of a workload, got 3"),
    ],
)
def test_marks_that_cannot_be_honoured(bench: Bench, marks: list[str], told: str) -> None:
    bench.workloads({"a": "pass", "b": "pass"})
    lines = "\n".join(f"@pytest.mark.dispatch({mark})" for mark in marks)
    bench.path.joinpath("test_own.py").write_text(f"import pytest\n{lines}\ndef test_it(dispatch_workload): pass\n")
    result = bench.run("test_own.py")
    result.assert_outcomes(errors=1)
    assert told in result.stdout.str()


def test_a_nearer_mark_counts_more(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "pass"})
    bench.pytester.makepyfile(
        test_own="""
        import pytest

        pytestmark = pytest.mark.dispatch("a.efi", "boot")

        @pytest.mark.dispatch("b.efi")
        def test_near(dispatch_workload):
            assert (dispatch_workload.name, dispatch_workload.run.expect) == ("b.efi", "boot")

        @pytest.mark.dispatch(expect="report")
        @pytest.mark.dispatch("a.efi")
        def test_two_that_agree(dispatch_workload):
            assert (dispatch_workload.name, dispatch_workload.run.expect) == ("a.efi", "report")
        """
    )
    bench.run("test_own.py").assert_outcomes(passed=2)


def test_a_mark_that_names_another_workload_on_an_item(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "pass"})
    bench.pytester.makeconftest(
        """
        import pytest

        def pytest_itemcollected(item):
            item.add_marker(pytest.mark.dispatch("b.efi"))
        """
    )
    result = bench.run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["mark dispatch: expected no other workload on the item of a.efi, got 'b.efi'"])


# A boot for each time an item is counted


def test_an_item_that_comes_twice_is_refused(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest("def pytest_collection_modifyitems(items): items[:] = items * 2\n")
    result = bench.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "w::a.efi comes more than once: expected each item once, or several passes" in result.stderr.str()


@pytest.mark.parametrize("by", ["a plugin", "a debugger"])
def test_an_item_that_is_left_before_its_outcome_is_no_pass(bench: Bench, python: str, by: str) -> None:
    bench.workloads({"a": "fail"})
    if by == "a plugin":
        bench.pytester.makeconftest("def pytest_pyfunc_call(): return True")
    args = bench.command(*(["--trace"] if by == "a debugger" else []))
    result = bench.pytester.run(python, "-m", "pytest", *args, stdin=b"", timeout=60)  # the debugger's input has ended
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["its test ended before the workload had an outcome: *"])


@pytest.mark.parametrize("when", ["setup", "call"])
def test_a_lab_fault_is_no_expected_failure(bench: Bench, when: str) -> None:
    bench.workloads({"a": "no-boot" if when == "setup" else "pass", "b": "fail"})
    bench.pytester.makeconftest(
        """
        import pytest

        def pytest_itemcollected(item):
            item.add_marker(pytest.mark.xfail(reason="known"))

        def pytest_dispatch_verdict(run):
            return "error" if run.workload.name == "a.efi" else None
        """
    )
    result = bench.run("--dispatch-retries=0")
    assert result.parseoutcomes()["errors"] == 1
    assert "ERROR w::a.efi - " in result.stdout.str()
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_lab_fault_is_caught_by_no_test_by_chance(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest("def pytest_dispatch_verdict(): return 'error'")
    bench.pytester.makepyfile(
        test_own="""
        import pytest

        @pytest.mark.dispatch("a.efi", expect="boot")
        def test_it(dispatch_lab, dispatch_workload):
            from pytest_dispatch.plugin.outcomes import LabFault
            assert not issubclass(LabFault, (Exception, pytest.fail.Exception))
        """
    )
    bench.run("test_own.py").assert_outcomes(passed=1)


def test_what_a_hook_returns_is_not_ignored(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest("def pytest_dispatch_workloads(workloads): return workloads[:0]")
    refused = bench.refused(*bench.command())
    assert refused == (
        "pytest_dispatch_workloads: expected the list changed in place, got list returned; write workloads[:] = …"
    )
    bench.pytester.makeconftest("def pytest_dispatch_workloads(workloads): return workloads")
    bench.run().assert_outcomes(passed=1)
