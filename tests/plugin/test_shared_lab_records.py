"""What a lab that sessions share writes down of them: in its audit log, and in its log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
from plugin_bench import WITHOUT, Bench, clean
from services import configured
from waiting import PATIENCE

MACHINES = "{id: m1, driver: 'sim?pace=0.001'}"


def test_a_session_is_closed_once_and_its_waits_are_not_in_the_log(bench: Bench, tmp_path: Path) -> None:
    bench.workloads({"a": "pass", "b": "fail"})
    (tmp_path / "lab").mkdir()
    with configured(tmp_path / "lab", machines=MACHINES) as service:
        environ = {**os.environ, "DISPATCH_TOKEN": service.token}
        result = clean(bench.fork("--dispatch-dir=w", f"--dispatch-lab={service.api}", *WITHOUT, environ=environ))
        result.assert_outcomes(passed=1, failed=2)  # the item, and its case
        told = httpx.get(f"{service.api}/api/v1/audit?action=session.close", headers=service.bearer()).json()
        assert len(told) == 1
        lines = service.log.read_text().splitlines()
    assert any("POST /api/v1/sessions: 201" in line for line in lines)
    assert not [line for line in lines if "GET /api/v1/runs/{run}" in line]


def test_what_is_wrong_with_a_driver_is_told_with_its_place_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("machines: [{id: m1, driver: 'sim?speed=9'}]\nserver: {boot: '127.0.0.1:0'}\n")
    words = [sys.executable, "-m", "pytest_dispatch.cli.main", "serve", "--config=lab.yaml"]
    said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert said.returncode == 2
    assert "lab.yaml:1:29: machines.0.driver: unknown option 'speed'; sim knows " in said.stderr
    assert "--machine" not in said.stderr
