"""Draws the picture of docs/deployments.md: `pytest --dispatch-rack` over a rack with faults, of fakes.

`python docs/racks.py`. First MAAS does not answer; then machines are busy, offline, fail too often, lose their job, and
are given up. Times are those of the fake; what pytest shows is recorded as it is.
"""

from __future__ import annotations

import os
import sys
import tempfile

from picture import Child, played, text_of, write

from pytest_dispatch.testing.maas import FakeMaas
from pytest_dispatch.testing.testflinger import FakeTestflinger, JobPlan

PANIC = ("[    1.934872] VFS: Cannot open root device", "[    1.941203] Kernel panic - not syncing")
#: How jobs of machines go, and what stands in the way of others.
PLANS = {
    "node-1": JobPlan(),
    "node-2": JobPlan(statuses={"provision": 1}, serial={"provision": PANIC}),
    "node-3": JobPlan(vanishes="reserve"),
    "node-4": JobPlan(statuses={"provision": 46}),
    "node-5": JobPlan(),
    "node-6": JobPlan(),
    "node-7": JobPlan(),
}
#: Beginnings of lines that say more of this computer than of the run.
_SETTING = ("platform ", "rootdir: ", "configfile: ", "plugins: ")
SHOWN = "pytest --dispatch-rack rack-7 -rfEs --tb=no"


def main() -> int:
    """Run both sessions and write their picture; returns 0 if they ended as they are meant to."""
    with tempfile.TemporaryDirectory() as scratch, FakeMaas() as maas, FakeTestflinger(speed=200) as farm:
        prepare(maas, farm)
        os.chdir(scratch)
        own = {"MAAS_URL": maas.url, "MAAS_API_KEY": maas.key, "TESTFLINGER_SERVER": farm.url}
        child = Child(_command(), **own)
        _, end = played(child)
        shown = [line for line in end if not text_of(line).startswith(_SETTING)]
        write("rack.svg", shown, "A rack with faults: MAAS is away, then machines are busy, offline, or fail")
        return int(child.code() != 1)  # some of them fail


def prepare(maas: FakeMaas, farm: FakeTestflinger) -> None:
    """Plant the faults."""
    maas.fail_next("GET *", status=503)
    for name, plan in PLANS.items():
        maas.add_machine(name, tags=["rack-7"])
        farm.add_agent(name, location="TOR3", plans=[plan])
    agents = {agent.name: agent for agent in farm.agents}
    job = {"job_queue": "node-5", "name": "certification", "tags": ["ada"], "provision_data": {"distro": "jammy"}}
    agents["node-5"].plans = [JobPlan(seconds={"provision": float("inf")})]
    farm.submit(job)
    agents["node-6"].state, agents["node-6"].comment = "offline", "a new disk, back on Friday"
    agents["node-7"].streak_type, agents["node-7"].streak_count = "fail", 21
    maas.add_machine("node-8", tags=["rack-7"])


def _command() -> list[str]:
    apart = ["-c", os.devnull, "--rootdir=.", "--dispatch-db=journal.db", "-p", "no:cacheprovider"]
    options = ["--dispatch-rack=rack-7", "-rfEs", "--tb=no", "--dispatch-first-look=1s", "--dispatch-retries=0"]
    pytest = [*options, *apart, "--disable-plugin-autoload", "-p", "pytest_dispatch.plugin"]
    once = f"print('$ {SHOWN}', flush=True); code = subprocess.call([sys.executable, '-m', 'pytest', *sys.argv[1:]])"
    program = f"import subprocess, sys; {once}; print(flush=True); {once}; sys.exit(code)"
    return [sys.executable, "-c", program, *pytest]


if __name__ == "__main__":
    sys.exit(main())
