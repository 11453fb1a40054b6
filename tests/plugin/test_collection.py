"""Workloads as items: what is collected, selected and asked for."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from plugin_bench import HERE, SIMS, WITHOUT, Bench

from pytest_dispatch.testing.github import FakeGitHub

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

EFI, ISO, IMG = (f"application/vnd.dispatch+{kind}" for kind in ("efi", "iso", "img"))


def collected(bench: Bench, *args: str) -> list[str]:
    """Node ids that a command line selects."""
    result = bench.pytester.runpytest_inprocess("--collect-only", "-q", *WITHOUT, *args)
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    return [line for line in result.outlines if "::" in line]


def passed(result: pytest.RunResult) -> list[str]:
    """Node ids that `-v` shows as passed, in their order."""
    return re.findall(r"(?m)^(?:\[gw\d\] .*)?(\S+) PASSED", result.stdout.str())


# What is collected


def test_a_release(bench: Bench, github: FakeGitHub) -> None:
    assets = {f"w-{number:03}.efi": (EFI, b"MZ") for number in range(105)}
    assets |= {"b.iso": (ISO, b"CD"), "a.img": (IMG, b"HD"), "notes.txt": ("text/plain", b"hello")}
    github.add_release("me/lab", "v1", assets)
    args = ["--dispatch-repo=me/lab", f"--dispatch-api-url={github.url}"]
    ids = collected(bench, *args)
    assert ids[:2] == ["me/lab@v1::a.img", "me/lab@v1::b.iso"]
    assert ids[2:] == [f"me/lab@v1::w-{number:03}.efi" for number in range(105)]
    listings = [call for call in github.requests if call.endswith("/assets")]
    assert [github.requests[call] for call in listings] == [2]  # two pages, once
    assert not github.downloads
    assert collected(bench, *args, "-m", "dispatch_iso") == ["me/lab@v1::b.iso"]
    assert collected(bench, *args, "-m", "not dispatch_efi") == ids[:2]
    assert collected(bench, *args, "-k", "w-007 or b.iso") == ["me/lab@v1::b.iso", "me/lab@v1::w-007.efi"]
    assert collected(bench, *args, "me/lab@v1::w-009.efi") == ["me/lab@v1::w-009.efi"]
    assert len(collected(bench, *args, "me/lab@v1")) == 107


def test_a_tree_starts_nothing(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makepyfile(test_own="def test_own(): pass")
    result = bench.run("--collect-only", "--dispatch-bind=127.0.0.1:1")
    result.stdout.fnmatch_lines(["dispatch: w; 1 efi", "*<DispatchCollector w>", "*<DispatchItem a.efi>"])
    result.stdout.fnmatch_lines(["*2 tests collected*"])
    assert not list(bench.path.rglob("journal.db*"))


@pytest.mark.parametrize("look", ["--fixtures", "--fixtures-per-test", "--cache-show", "--setup-plan", "--markers"])
def test_who_only_looks_starts_nothing(bench: Bench, look: str) -> None:
    bench.workloads({"a": "pass"})
    result = bench.run(look, "--dispatch-bind=127.0.0.1:1", "--dispatch-issues=none")
    assert result.ret == 0
    assert not list(bench.path.rglob("journal.db*"))
    assert "sim-1" not in result.stdout.str()


def test_beside_python_tests(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.path.joinpath("w", "dispatch.toml").write_text(
        "[[workload]]\nname = 'a.efi'\nlabels = ['nightly']\n[[workload]]\nname = 'b'\nfile = 'a.efi'\n"
    )
    bench.pytester.makepyfile(test_own="def test_own(): pass")
    w = "--dispatch-dir=w"
    assert collected(bench, w) == ["test_own.py::test_own", "w::a.efi", "w::b"]
    assert collected(bench, w, "test_own.py") == ["test_own.py::test_own"]
    assert collected(bench, w, "w::b") == ["w::b"]
    assert collected(bench, w, "w::b", "test_own.py") == ["test_own.py::test_own", "w::b"]
    assert collected(bench, w, "w::b", "w::a.efi") == ["w::a.efi", "w::b"]
    assert collected(bench, w, "w", "w::b") == ["w::a.efi", "w::b"]
    assert collected(bench, w, "-k", "nightly") == ["w::a.efi"]
    assert collected(bench, w, "--deselect=w::a.efi") == ["test_own.py::test_own", "w::b"]
    assert collected(bench, w, "-p", "no:dispatch-nothing", "-k", "none") == []


def test_a_folder_that_holds_python_tests_too(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.path.joinpath("w", "test_near.py").write_text("def test_near(): pass\n")
    assert collected(bench, "--dispatch-dir=w", "w") == ["w/test_near.py::test_near", "w::a.efi"]
    assert collected(bench, "--dispatch-dir=w/", "w/::a.efi") == ["w::a.efi"]


def test_pytest_looks_at_no_workload_as_if_it_were_a_test(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    (bench.path / "w" / "notes.txt").write_text("no workload\n")
    bench.pytester.makeconftest(
        """
        def pytest_collect_file(file_path):
            print("looked at", file_path.name)
        """
    )
    result = bench.run("--collect-only", "-q", "-s")
    assert "looked at notes.txt" in result.outlines
    assert "looked at a.efi" not in result.outlines
    assert "w::a.efi" in result.outlines


@pytest.mark.parametrize("folder", [".", "./w", "ABSOLUTE", "../w"])
def test_node_ids_are_the_same_however_the_folder_is_spelled(
    bench: Bench, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bench.workloads({"a": "pass", "b": "pass"})
    bench.pytester.makeini("[pytest]\n")
    if folder in (".", "../w"):
        monkeypatch.chdir(path)
    folder = str(path) if folder == "ABSOLUTE" else folder
    assert collected(bench, f"--dispatch-dir={folder}") == ["w::a.efi", "w::b.efi"]
    for spelled in (folder, "w", path, os.path.relpath(path)):
        assert collected(bench, f"--dispatch-dir={folder}", f"{spelled}::a.efi") == ["w::a.efi"]
    for whole in (folder, path, os.path.relpath(path)):
        assert collected(bench, f"--dispatch-dir={folder}", str(whole)) == ["w::a.efi", "w::b.efi"]


def test_a_folder_outside_the_root_directory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pytest names a file there."""
    path = bench.workloads({"a": "pass"})
    inside = bench.path / "inside"
    inside.mkdir()
    inside.joinpath("pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(inside)
    for folder in ("../w", path):
        assert collected(bench, f"--dispatch-dir={folder}") == ["../w::a.efi"]
        assert collected(bench, "--rootdir=.", f"--dispatch-dir={folder}", f"{path}::a.efi") == ["../w::a.efi"]


def test_the_root_directory_itself(bench: Bench) -> None:
    bench.workloads({"a": "pass"}, folder=".")
    for folder in (".", bench.path):
        assert collected(bench, f"--dispatch-dir={folder}") == [".::a.efi"]
        assert collected(bench, f"--dispatch-dir={folder}", ".::a.efi") == [".::a.efi"]


def test_what_is_told_of_a_folder_names_it_as_it_was_given(bench: Bench) -> None:
    bench.path.joinpath("w").mkdir()
    assert bench.refused("--dispatch-dir=./w/").startswith("./w: no workload in this folder")


def test_what_is_left_out_is_named_at_the_top_or_at_the_end_of_a_quiet_run(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    for number in range(10):
        bench.path.joinpath("w", f"new-{number}.img").write_bytes(b"?")
    lines = [f"dispatch: left out: new-{number}.img: dispatch.toml does not list it: *" for number in range(8)]
    lines.append("dispatch: left out: … and 2 more")
    for args in (["--collect-only"], ["--collect-only", "-q"], []):
        bench.run(*args).stdout.fnmatch_lines(lines, consecutive=True)
    line = bench.refused("--dispatch-dir=w", "w::new-1.img")
    assert line.startswith("not found: w::new-1.img (it was left out: dispatch.toml does not list it: ")


def test_a_hook_may_take_in_what_is_left_out(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.path.joinpath("w", "new.efi").write_bytes(b"MZ")
    bench.pytester.makeconftest(
        """
        from dataclasses import replace

        def pytest_dispatch_workloads(workloads):
            a = workloads[0]
            payload = {**a.payload, "location": a.payload["location"].replace("a.efi", "new.efi"), "size": 2}
            workloads.append(replace(a, name="new.efi", payload=payload))
        """
    )
    result = bench.run("--collect-only")
    result.stdout.fnmatch_lines(["*2 efi*"])
    result.stdout.no_fnmatch_line("*left out*")


def test_ids_as_pytest_shows_them_elsewhere(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.workloads({"a": "fail", "b": "pass"})
    bench.pytester.makeini("[pytest]\ndispatch_dir = w\n")
    inside = bench.path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    result = bench.pytester.runpytest_inprocess(SIMS, *HERE, "-k", "a.efi", *WITHOUT)
    [shown] = re.findall(r"(?m)^FAILED (\S+)", result.stdout.str())
    assert shown == "../w::a.efi"
    assert collected(bench, shown) == ["w::a.efi"]


def test_without_the_plugin(bench: Bench) -> None:
    bench.pytester.makepyfile(test_own="def test_own(): pass")
    result = bench.pytester.runpytest_inprocess("-p", "no:dispatch", *WITHOUT)
    result.assert_outcomes(passed=1)
    assert bench.pytester.runpytest_inprocess("-p", "no:dispatch", "--dispatch-dir=w").ret == 4


# What is run


def test_only_what_is_selected_reaches_a_machine(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "pass", "c": "pass"})
    bench.pytester.makepyfile(test_own="def test_own(): pass")
    result = bench.spawn("-k", "own or b", "--durations=0", "-vv")
    assert passed(result) == ["test_own.py::test_own", "w::b.efi"]
    assert re.findall(r"(\S+) assigned on", result.stdout.str()) == ["b.efi"]
    result.stdout.fnmatch_lines(["machine sim-*: 1 (b.efi)", "*s setup * w::b.efi"])


def test_failed_ones_first_and_alone(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "fail", "c": "pass"})
    first = bench.run("-v")
    first.assert_outcomes(passed=2, failed=2)
    again = bench.run("-v", "--lf")
    again.assert_outcomes(failed=2)
    assert "a.efi" not in again.stdout.str()
    ordered = bench.run("-v", "--ff")
    assert re.findall(r"(?m)^(w::\S+) (?:PASSED|FAILED)", ordered.stdout.str()) == ["w::b.efi", "w::a.efi", "w::c.efi"]


def test_step_by_step(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "fail", "c": "pass"})
    bench.run("--sw").stdout.fnmatch_lines(["*Interrupted: Test failed, continuing from this test next run*"])
    bench.workloads({"a": "pass", "b": "pass", "c": "pass"})
    assert passed(bench.run("--sw", "-v")) == ["w::b.efi", "w::c.efi"]


@pytest.mark.parametrize("stop", ["-x", "--maxfail=1"])
def test_stopping_at_the_first_failure(bench: Bench, stop: str) -> None:
    bench.workloads({"a": "fail", "b": "no-boot", "c": "no-boot"})  # what the machine goes on with never boots
    result = bench.spawn(stop, "-v", machines="--dispatch-machine=sim:1?pace=0.01")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = result.stdout.str()
    assert not re.search(r"w::[bc]\.efi", text)
    assert text.count("⚡ booting") == 1  # a failed case ends the item, and yet its story is told
    assert "report: a.efi, result failed" in text


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
@pytest.mark.draw(1)
def test_the_summary_is_a_line_for_each_item_in_ci_too(
    bench: Bench, workers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")  # pytest then cuts no line of its summary, however long it is
    bench.workloads({"a": "fail", "b": "no-boot"})
    result = bench.spawn("--dispatch-retries=0", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert [line.partition(" - ")[0] for line in result.outlines[-4:-1]] == [
        "SUBFAILED[memory] w::a.efi", "FAILED w::a.efi", "ERROR w::b.efi"
    ]  # fmt: skip


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
@pytest.mark.draw(1)
def test_what_marks_leave_out_is_not_booted(bench: Bench, workers: tuple[str, ...]) -> None:
    bench.workloads(dict.fromkeys("abcdef", "pass"))
    bench.pytester.makeconftest(
        """
        import pytest

        MARKS = {
            "a.efi": pytest.mark.skip(reason="not today"),
            "b.efi": pytest.mark.skipif(True, reason="not today"),
            "c.efi": pytest.mark.xfail(run=False, reason="not today"),
            "d.efi": pytest.mark.skipif(False, reason="not today"),
            "e.efi": pytest.mark.skipif("1 + 1 == 3"),
        }

        def pytest_collection_modifyitems(items):
            for item in items:
                if item.name in MARKS:
                    item.add_marker(MARKS[item.name])

        @pytest.fixture(autouse=True)
        def picky(request):
            if request.node.name == "f.efi":
                pytest.skip("not today either")
        """
    )
    result = bench.spawn("-v", *workers)
    result.assert_outcomes(passed=2, skipped=3, xfailed=1)
    text = result.stdout.str()
    assert "not today either" in bench.spawn("-rs", "-k", "f.efi").stdout.str()
    assert [name for name in "abcde" if f"{name}.efi assigned" in text] == ["d", "e"]


@pytest.mark.parametrize("hook", ["workloads(workloads)", "verdict(run)", "issue(run)"])
def test_a_hook_that_is_found_too_late_is_refused(bench: Bench, hook: str) -> None:
    bench.workloads({"a": "pass"})
    near = bench.path / "checks" / "hw"
    near.mkdir(parents=True)
    (near / "conftest.py").write_text(f"def pytest_dispatch_{hook}: pass\n")
    (near / "test_own.py").write_text("def test_own(): pass\n")
    result = bench.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    name = hook.partition("(")[0]
    assert f"pytest_dispatch_{name} is found too late, in {near / 'conftest.py'}: expected it" in result.stderr.str()
    bench.run("checks/hw", "w").assert_outcomes(passed=2)


def test_nothing_is_asked_for_where_collecting_failed(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makepyfile(test_broken="import pytest; pytest.fail('broken', pytrace=False)")
    result = bench.spawn()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*1 error during collection*"])
    assert "a.efi" not in result.stdout.str()
    bench.spawn("--continue-on-collection-errors").assert_outcomes(passed=1, errors=1)


def test_what_fixtures_and_setup_show(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(autouse=True)
        def around():
            yield
        """
    )
    result = bench.run("--setup-show")
    result.stdout.fnmatch_lines(["*SETUP*around*", "*w::a.efi (fixtures used: around*", "*TEARDOWN*around*"])
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    "others",
    [
        ["-p", "no:terminal"],
        ["-p", "no:cacheprovider", "--dispatch-db=j.db"],
        ["-p", "no:logging", "-p", "no:threadexception", "-s"],
        ["-W", "error", "--strict-markers", "--strict-config"],
        ["--dispatch-drain=0", "-q"],
    ],
    ids=lambda args: args[-1],
)
def test_without_some_plugins(bench: Bench, others: list[str]) -> None:
    bench.workloads({"a": "pass", "b": "fail"})
    result = bench.run(*others, "--junitxml=j.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    xml = Path(bench.path / "j.xml").read_text()
    assert len(re.findall(r'<testcase classname="w" name="a.efi"', xml)) == 1
    assert "dispatch_digest" in xml
    assert result.stderr.str() == ""
