"""Visits of the pages of a large lab over HTTP: which pages there are, and how long each takes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from large_lab import LargeLab

DAY = 86_400.0  # seconds

#: Pages with what people choose on them, by what is slow in them. `waits`, `runs`, `ended` and `queued` are runs.
ADDRESSES = """
/
/queue
/queue?first=5000
/queue?view=mine
/queue?view=stuck
/queue?group=group-3
/queue?named=99
/queue?view=stuck&group=group-3&named=nothing
/queue/add
/queue/add?kind=boot&group=group-3
/queue/edit/{queued}
/machines
/machines?first=150
/machines?state=running
/machines?group=group-3&named=m-1
/machines/m-17
/runs/{waits}
/runs/{runs}
/runs/{ended}
/builds
/builds?first=200
/builds?source=lab/firmware
/builds/compare?source=lab/firmware&old=v18&new=v19
/history
/history?q=outcome:failed
/history?q=machine:retired-1
/history?q=workload:test-7.efi+flaky:yes
/history?q=memory+-panic
/history?q=needle
/history?q=group:group-3+since:7d
/history/charts?over=1h
/history/charts?over=24h
/history/charts?over=7d
/history/charts?over=30d
/templates
/templates?first=360
/templates?group=group-3&named=t-1
/sessions
/sessions?view=mine
/lab
/account
/users
/users?first=275
/users?named=9&user=person-9
/audit
/audit?who=person-3
/audit?action=run
/audit?action=run.hold
/audit?target=nothing
/audit?since={today}
/audit?until={year_ago}
/sign-in
""".strip().splitlines()


@dataclass(frozen=True)
class Address:
    """Where a server is, and who asks it."""

    url: str
    token: str = ""


async def look(at: Address, paths: list[str], waits: list[float], sizes: list[int]) -> None:
    """Ask for pages one after the other, on a connection that is kept."""
    where = urlsplit(at.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=2**22)
    for path in paths:
        head = f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {at.token}\r\n\r\n"
        began = time.perf_counter()
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{path} answered {answer.decode()}")
        size = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(size)
        waits.append(time.perf_counter() - began)
        sizes.append(size)
    writer.close()


def addresses(lab: LargeLab) -> list[str]:
    """Return the pages of a lab in which runs wait, run and have ended."""
    words = {
        "waits": lab.ask("GET", "/queue?most=1")["runs"][0]["id"],
        "runs": lab.ask("GET", "/machines/m-5")["runs"][0],
        "ended": lab.ask("GET", "/history?q=who:person-0+outcome:passed+since:1h&most=1")["runs"][0]["run"],
        "queued": lab.ask("POST", "/groups/group-0/queue", {"template": "t-0"})["id"],
        "today": time.strftime("%Y-%m-%d", time.gmtime()),
        "year_ago": time.strftime("%Y-%m-%d", time.gmtime(time.time() - 360 * DAY)),
    }
    return [each.format(**words) for each in ADDRESSES]
