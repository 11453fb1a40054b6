"""In which group workloads run: said by an option, in a file and by a mark; and a group that the lab does not have."""

from __future__ import annotations

import pytest
from plugin_bench import Bench

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

LISTED = '[[workload]]\nname = "a.efi"\n{}'


def listed(bench: Bench, more: str = "") -> None:
    bench.workloads({"a": "pass"})
    bench.path.joinpath("w", "dispatch.toml").write_text(LISTED.format(more))


def test_the_group_that_every_lab_has(bench: Bench) -> None:
    listed(bench, 'group = "lab"\n')
    bench.run().assert_outcomes(passed=1)


def test_an_option_names_it_for_all_that_name_none(bench: Bench) -> None:
    listed(bench)
    result = bench.run("--dispatch-group=lap")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "a.efi: the lab has no group 'lap': did you mean lab?" in result.stderr.str() + result.stdout.str()


def test_a_file_overrides_the_option(bench: Bench) -> None:
    listed(bench, 'group = "lab"\n')
    bench.run("--dispatch-group=lap").assert_outcomes(passed=1)


def test_a_mark_overrides_the_file(bench: Bench) -> None:
    listed(bench, 'group = "lap"\n')
    bench.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.dispatch("a.efi", group="lab")
        def test_it(dispatch_workload):
            assert dispatch_workload.run.group == "lab"
        """
    )
    bench.run("test_a_mark_overrides_the_file.py").assert_outcomes(passed=1)


@pytest.mark.parametrize("given", ["''", "1", "None"])
def test_a_mark_with_a_group_that_is_no_name(bench: Bench, given: str) -> None:
    bench.workloads({"a": "pass"})
    bench.pytester.makepyfile(
        f"import pytest\n@pytest.mark.dispatch('a.efi', group={given})\ndef test_it(dispatch_workload): pass\n"
    )
    result = bench.run("test_a_mark_with_a_group_that_is_no_name.py")
    assert "mark dispatch: expected group= the name of a group of the lab, got " in result.stdout.str()
