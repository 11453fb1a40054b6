"""Puts files into sockets, in threads of its own: neither a slow disk nor fast readers hold up the event loop.

Theory of operation: each of a few lanes is a thread that waits for all of its sockets at once, and has the kernel move
a chunk of the file into each that has room (sendfile, which lets other threads run meanwhile). So a reader that stalls
holds up nobody, and memory does not grow with the files. A file that arrives is moved as far as it is there; then its
flow is laid aside until there is more. A flow has handles of its own on socket and file, and only its
lane closes them: whoever gives it up may close theirs at any time.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import threading
from collections import deque
from contextlib import suppress

from pytest_dispatch.server.promised import Promised, SpoiledError

LANES = 2  # threads; a disk may keep one of them waiting
CHUNK = 4 * 2**20  # bytes that the kernel is asked to move at once; it takes as many as there is room for
CHECK = 16 * 2**20  # bytes after which the file is held to what was promised once more
STOP = 1.0  # seconds for a lane to end; one that waits for a disk ends with the process


class Flow:
    """Bytes of a file on their way into a socket.

    Attributes:
        written: Up to which offset the kernel has taken the file.
        ended: All of them are written, or nothing more will be.
        error: Why not all of them, where that is the file's fault.
    """

    def __init__(self, lane: Lane, promised: Promised, handles: tuple[int, int], span: tuple[int, int]) -> None:
        self.written, self._end = span
        self._checked = self.written
        self.ended = asyncio.Event()
        self.error: SpoiledError | None = None
        self.given_up = False
        self.aside = False  # waits for the file, not for the socket
        self._lane = lane
        self._promised = promised
        self._loop = asyncio.get_running_loop()
        self._file, self.socket = map(os.dup, handles)
        self._leave = promised.follow(self._more)

    def give_up(self) -> None:
        """Write no more of it than what is being written just now."""
        self.given_up = True
        self._lane.tell(self)

    def push(self) -> bool:
        """In the lane: have a chunk moved if there is room; returns whether there is more to come."""
        try:
            self._check(CHUNK)
            room = min(CHUNK, self._end - self.written, self._promised.ready - self.written)
            if room <= 0:
                return self._lay_aside()
            count = os.sendfile(self.socket, self._file, self.written, room)
            self.written += count
            self._check(0 if count else self._end)
        except (BlockingIOError, InterruptedError):
            return True
        except ConnectionError:
            return False
        except SpoiledError as error:
            self.error = error
            return False
        except OSError:
            self.error = SpoiledError(f"{self._promised.path.name} cannot be sent from the disk that it is on")
            return False
        return count > 0 and self.written < self._end

    def _lay_aside(self) -> bool:
        """Wait until more of the file is there; what comes between the look and the wait is not overlooked."""
        self.aside = True
        self._promised.check(self._file)
        self.aside = self._promised.ready <= self.written
        return True

    def _more(self) -> None:
        """In any thread: there is more of the file, or there will be none."""
        if self.aside:
            self._lane.tell(self)

    def _check(self, left: int) -> None:
        """Hold the file to what was promised: now and then, if it arrives, and where no more than so much is left."""
        arrives = self._promised.ready < self._end
        if arrives or self._end - self.written <= left or self.written - self._checked >= CHECK:
            self._checked = self.written
            self._promised.check(self._file)

    def close(self) -> None:
        """In the lane: let go of both handles, and tell."""
        self._leave()
        os.close(self._file)
        os.close(self.socket)
        with suppress(RuntimeError):  # the loop has ended: there is nobody left to be told
            self._loop.call_soon_threadsafe(self.ended.set)


class Pump:
    """The lanes; each is started when there is something for it. `stop` after use."""

    def __init__(self) -> None:
        self._lanes: list[Lane] = []
        self._started = 0

    def start(self, promised: Promised, handles: tuple[int, int], span: tuple[int, int]) -> Flow:
        """Begin to write.

        Args:
            promised: What the file has to be, to the end.
            handles: Descriptors of file and socket.
            span: The first offset, and the one after the last.
        """
        if len(self._lanes) < LANES:
            self._lanes.append(Lane())
        lane = self._lanes[self._started % LANES]
        self._started += 1
        flow = Flow(lane, promised, handles, span)
        lane.tell(flow)
        return flow

    def stop(self) -> None:
        """Give everything up and end the threads."""
        for lane in self._lanes:
            lane.tell(None)
        for lane in self._lanes:
            lane.join()
        self._lanes.clear()


class Lane:
    """One thread and its flows."""

    def __init__(self) -> None:
        self._inbox: deque[Flow | None] = deque()  # new ones, those given up, and None for the end
        self._flows: set[Flow] = set()
        self._aside: set[Flow] = set()  # those of them that wait for their files
        self._wakes, self._wake = socket.socketpair()
        self._wakes.setblocking(False)
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._work, name="dispatch-pump", daemon=True)
        self._thread.start()

    def tell(self, flow: Flow | None) -> None:
        """Something is new with a flow; None ends the thread."""
        self._inbox.append(flow)
        with suppress(OSError):  # it is awake anyway, or has ended
            self._wake.send(b"\0")

    def join(self) -> None:
        """Wait for the thread's end."""
        self._thread.join(STOP)
        if not self._thread.is_alive():
            self._wake.close()

    def _work(self) -> None:
        going_on = True
        while going_on:
            for key, _ in self._selector.select():
                if key.data is None:
                    going_on = self._listen()
                elif not key.data.push():
                    self._drop(key.data)
                elif key.data.aside:
                    self._selector.unregister(key.data.socket)
                    self._aside.add(key.data)
        for flow in list(self._flows):
            self._drop(flow)
        self._selector.close()
        self._wakes.close()

    def _listen(self) -> bool:
        """Do what it is told; returns whether it is to go on."""
        with suppress(BlockingIOError):
            self._wakes.recv(4096)
        while self._inbox:
            flow = self._inbox.popleft()
            if flow is None:
                return False
            if flow.given_up:
                self._drop(flow)
            elif flow in self._aside or flow not in self._flows:  # else it was told of twice
                flow.aside = False
                self._aside.discard(flow)
                self._flows.add(flow)
                self._selector.register(flow.socket, selectors.EVENT_WRITE, flow)
        return True

    def _drop(self, flow: Flow) -> None:
        if flow in self._flows:
            self._flows.remove(flow)
            if flow not in self._aside:
                self._selector.unregister(flow.socket)
            self._aside.discard(flow)
            flow.close()
