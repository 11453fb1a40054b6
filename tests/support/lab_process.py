"""A lab in a process of its own, to be measured or killed.

`python lab_process.py FOLDER PORT MACHINES NAME...` serves those files of the folder, each as often as named, to so
many simulated machines and to whoever else asks. It says where it listens, and then, for each line that it gets, how it
stands; what has happened by then is on disk.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import threading
from pathlib import Path

from labs import running_lab
from waiting import until

from pytest_dispatch.core.media import BOOT, BootPayload
from pytest_dispatch.core.model import Policy, Workload
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.machines.sim.driver import SimMachine

_sendfile, _pread = os.sendfile, os.pread
_counting = threading.Lock()
sent = 0


def _counted(out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
    """The system's own sendfile, and how much went through it."""
    done = _sendfile(out_fd, in_fd, offset, count)
    _count(done)
    return done


def _read(file: int, count: int, offset: int) -> bytes:
    """The system's own pread, which small files are sent with; likewise."""
    data = _pread(file, count, offset)
    _count(len(data))
    return data


def _count(done: int) -> None:
    global sent  # noqa: PLW0603 - one process, one figure
    with _counting:
        sent += done


def _standing() -> dict[str, int]:
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "sent": sent}


def _workload(path: Path) -> Workload:
    size = path.stat().st_size
    payload = BootPayload(media=path.suffix[1:], location=str(path), size=size)
    return Workload(name=path.name, kind=BOOT, payload=payload.as_json())


async def main(folder: Path, port: int, machines: int, names: list[str]) -> None:
    os.sendfile, os.pread = _counted, _read
    sims = [SimMachine(pace=0.002).driven(f"sim-{n}") for n in range(1, machines + 1)]
    async with running_lab(folder, port=port, machines=sims) as bench:
        session = await bench.lab.session_service.open("w", Policy(), IssueRule(), bench.port)
        keys = [name if names.count(name) == 1 else f"{name} {n}" for n, name in enumerate(names)]
        wanted = [(key, _workload(folder / name)) for key, name in zip(keys, names, strict=True)]
        runs = await bench.lab.session_service.submit(session, wanted)
        await until(lambda: len(bench.boot.assets) == len(runs))
        print(json.dumps({"port": bench.port, "session": session, **_standing()}), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            await bench.lab.lab_state.on_disk()
            print(json.dumps(_standing()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
