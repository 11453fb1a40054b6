"""The demo: real firmware boots real programs from our server, and every kind of ending is told apart.

Run by `make demo`. Without QEMU and OVMF it falls back to simulated machines, and says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.lab_program.in_process import make_machines
from pytest_dispatch.lab_program.option_values import read_spec

#: How the demo's workloads are meant to end.
MEANT = {
    "come-back.efi": Outcome.FAILED,
    "fail.efi": Outcome.FAILED,
    "hang.efi": Outcome.FAILED,
    "never-boots.efi": Outcome.ERROR,
    "pass.efi": Outcome.PASSED,
}
_RESULTS = {Failure: Outcome.FAILED, Error: Outcome.ERROR, Skipped: Outcome.SKIPPED}


def main(arguments: list[str]) -> int:
    """Run the demo; 0 if everything ended as it is meant to."""
    with tempfile.TemporaryDirectory(prefix="dispatch-demo-") as scratch:
        junit = Path(scratch) / "demo.xml"
        options = ["--dispatch-dir=demo", f"--dispatch-machine={_machines(Path(scratch))}"]
        options += ["--dispatch-bind=127.0.0.1:0", "--dispatch-no-mdns", *arguments]
        print("$ pytest " + " ".join(options), flush=True)
        apart = ["-c", os.devnull, "--rootdir=.", f"--dispatch-db={scratch}/journal.db", f"--junitxml={junit}"]
        apart += ["-p", "no:cacheprovider", "--disable-plugin-autoload", "-p", "pytest_dispatch.plugin"]
        command = [sys.executable, "-m", "pytest", "demo", *options, *apart]
        code = subprocess.run(command, cwd=Path(__file__).parent, check=False).returncode
        ended = _ended(junit)
        return _compare(ended, part=bool(arguments)) if ended else code


def _machines(scratch: Path) -> str:
    """Two machines with real firmware, else two simulated ones."""
    try:
        make_machines(read_spec("qemu:2"), scratch)
    except MachineError as missing:
        print(f"No real firmware here ({missing}); going on with simulated machines.", flush=True)
        return "sim:2"
    return "qemu:2"


def _ended(junit: Path) -> dict[str, Outcome]:
    """How each workload that was run has ended."""
    if not junit.exists():
        return {}
    return {case.name: _outcome(case) for suite in JUnitXml.fromfile(str(junit)) for case in suite}


def _compare(ended: dict[str, Outcome], *, part: bool) -> int:
    """Say how they ended, and whether it was meant so; with arguments not all need to have run."""
    expected = {name: meant for name, meant in MEANT.items() if name in ended or not part}
    print("\nThe demo is meant to end like this, failures and all:")
    for name, meant in expected.items():
        came = ended.get(name, "not run")
        print(f"  {'ok' if came == meant else 'NOT OK':<6} {name:<16} {came}")
    return int(any(ended.get(name) != meant for name, meant in expected.items()))


def _outcome(case: TestCase) -> Outcome:
    """The worst result: a failed sub-test adds one of its own to its item's."""
    kinds = [_RESULTS[type(result)] for result in case.result]
    return min(kinds, key=list(Outcome).index, default=Outcome.PASSED) if kinds else Outcome.PASSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
