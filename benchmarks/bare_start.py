"""A pytest plugin for `starting.py`: what the start takes with nothing of ours in it.

pytest spawns a process as early as the plugin does. That one imports the two libraries that a lab is made of, opens a
database, listens, and answers as if it had a workload. So it is what is left if all of our own code took no time.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_LAB = """
import gc, os
gc.disable()
from aiohttp import web
import sqlalchemy

engine = sqlalchemy.create_engine("sqlite://")
with engine.connect() as connection:
    connection.exec_driver_sql("CREATE TABLE runs (id INTEGER PRIMARY KEY)")


async def answer(request):
    return web.Response(headers={"Dispatch-Workload": "bare"})


app = web.Application()
app.router.add_route("*", "/dispatch", answer)
web.run_app(app, host="127.0.0.1", port=int(os.environ["BARE_PORT"]), print=None)
"""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Spawn it at the moment at which the plugin spawns a lab."""
    lab = subprocess.Popen([sys.executable, "-P", "-c", _LAB])
    config.add_cleanup(lambda: _end(lab))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Wait for the signal that ends it, as a session does whose workloads run."""
    signal.pause()


def _end(lab: subprocess.Popen[bytes]) -> None:
    lab.terminate()
    lab.wait()
