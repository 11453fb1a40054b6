"""An operator's afternoon at the command line, from a machine that breaks to its return."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from afternoon import Afternoon, dispatch, lab_of_the_afternoon


@pytest.mark.draw(1, of="days")
def test_a_machine_breaks_is_held_passes_its_health_workload_and_returns(tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []
    with lab_of_the_afternoon(tmp_path / "lab") as lab:
        afternoon = Afternoon(lab, lambda line: said.append((line, dispatch(lab, line))))
        (_, breaks), (_, returns) = afternoon.parts()
        breaks()
        broken = afternoon.asks("machines show rpi-02")
        returns()
        whole = afternoon.asks("machines show rpi-02")
    assert len({fault["workload"] for fault in broken["health"]["faults"]}) == 3
    assert (broken["state"], broken["hold"]["owner"]) == ("held", "lab")
    assert (whole["hold"], whole["health"]["outcome"]) == (None, "passed")
    (_, machines), (_, before), (_, moved), (_, after), (_, check), (_, history), (_, status) = said
    held = next(line for line in machines.splitlines() if line.startswith("rpi-02"))
    assert re.match(r"rpi-02 +held .* its health workload check .* ended with a fault of the lab", held)
    assert "place 3" in before.splitlines()[0]
    assert "is at the top of the queue of pis" in moved
    assert "place 1" in after.splitlines()[0]
    assert "check of rpi-02" in check
    assert [line.split()[2] for line in history.splitlines() if " check " in line][:1] == ["passed"]
    assert "rpi-02" not in status  # nothing is odd about it any more
