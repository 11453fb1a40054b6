"""pytest-xdist's workers as forks of a process that has everything imported: starting one takes hardly any time.

execnet starts a worker by a command, which is this file in a test's run of pytest. It hands its standard files, its
folder and its environment to the process that forks, and ends with the worker, which in turn is killed when it is gone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading

#: In the environment of runs whose workers are to be real ones, each an interpreter of its own.
REAL = "REAL_WORKERS"
_LONGEST = 2**18  # bytes of an order


def listen() -> socket.socket:
    """Listen for orders for workers, under a name that this process alone has (Linux)."""
    there = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    there.bind(_address(os.getpid()))
    there.listen()
    return there


def fork_workers(of: int) -> None:
    """Have execnet start workers of this process and of its forks by the process that forks, unless they are real."""
    from execnet import gateway_io  # a worker's command needs none of it

    real, command = gateway_io.popen_args, [sys.executable, "-ISs", __file__, str(of)]
    gateway_io.popen_args = lambda spec: real(spec) if REAL in os.environ else command


def work(order: socket.socket) -> None:
    """Be the worker of this order, in a fork."""
    said, files, _, _ = socket.recv_fds(order, _LONGEST, 3)
    environ = json.loads(said)
    folder = environ.pop("PWD")
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.path[:0] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[:] = ["-c"]
    threading.Thread(target=_end_with, args=[order], daemon=True).start()
    exec(eval(sys.stdin.readline()))  # as the command does that execnet has


def _end_with(order: socket.socket) -> None:
    order.recv(1)  # the command's process is gone
    os.kill(os.getpid(), signal.SIGKILL)


def _address(of: int) -> str:
    return f"\0pytest-dispatch-workers-{of}"


def main() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as order:
        order.connect(_address(int(sys.argv[1])))
        said = json.dumps({**os.environ, "PWD": os.getcwd()})  # noqa: PTH109 - imports nothing more
        socket.send_fds(order, [said.encode()], [0, 1, 2])
        for file in range(3):
            os.close(file)
        order.recv(1)  # the worker has ended


if __name__ == "__main__":
    main()
