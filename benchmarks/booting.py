"""HEAD + GET of 16 KiB by 64 machines, against a bare aiohttp FileResponse handler."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_lab import Measure, running_lab, until_it_listens

from machines import Ask, drive

SIZE = 16 * 2**10
MACHINES = 64
TIMES = 20
ROUNDS = 7

_BARE = """
import sys
from aiohttp import web
async def handle(request):
    return web.FileResponse(sys.argv[1])
app = web.Application()
app.router.add_get("/dispatch", handle)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=None, print=None)
"""


def _all(port: int) -> float:
    """HEAD and GET, again and again; the lab takes each as a boot that did not happen, and serves the same bytes."""
    boots = [Ask("HEAD", fresh=True), Ask("GET")] * TIMES
    began = time.perf_counter()
    drive(port, [boots] * MACHINES)
    return MACHINES * len(boots) / (time.perf_counter() - began)


def measure() -> list[Measure]:
    """Rounds in turn, medians compared."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as scratch:
        file = Path(scratch) / "asset.efi"
        file.write_bytes(b"\xa5" * SIZE)
        ours, theirs = [], []
        bare = [sys.executable, "-c", _BARE, str(file), "18094"]
        with subprocess.Popen(bare) as reference, running_lab([file], MACHINES * TIMES * (ROUNDS + 1)) as lab:
            until_it_listens(18094)
            _all(lab.port)
            _all(18094)
            for _ in range(ROUNDS):
                ours.append(_all(lab.port))
                theirs.append(_all(18094))
            reference.terminate()
    ratio = sorted(a / b for a, b in zip(ours, theirs, strict=True))[ROUNDS // 2]
    return [
        Measure(
            f"HEAD + GET of 16 KiB by {MACHINES} machines",
            "a bare aiohttp FileResponse handler",
            f"{sorted(ours)[ROUNDS // 2]:.0f} requests/s",
            f"{sorted(theirs)[ROUNDS // 2]:.0f} requests/s",
            ratio,
            "≥ 0.7",
            ratio >= 0.7,
            "every request of ours also moves a run and is journalled",
        )
    ]


if __name__ == "__main__":
    for result in measure():
        result.show()
