"""What has to be true of a run, beside that it succeeds."""

import pytest


@pytest.mark.dispatch("debian")
def test_debian_boots_quickly(dispatch_workload):
    assert dispatch_workload.outcome() == "passed"
    [boot] = dispatch_workload.cases
    assert boot.duration < 300


@pytest.mark.dispatch("debian")
def test_nothing_panics(dispatch_workload):
    dispatch_workload.outcome()
    assert "Kernel panic" not in dispatch_workload.log("boot")
