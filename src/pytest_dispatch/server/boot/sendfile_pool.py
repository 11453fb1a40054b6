"""Sends files into sockets in separate threads, so that neither slow disks nor fast readers block the event loop.

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

from pytest_dispatch.server.boot.file_snapshot import FileChangedError, FileSnapshot

LANES = 2  # number of threads; a slow disk may block one of them
CHUNK = 4 * 2**20  # maximum number of bytes per sendfile call; the kernel takes as many as fit
CHECK = 16 * 2**20  # bytes between checks that the file has not changed
STOP = 1.0  # seconds for a lane to end; one that waits for a disk ends with the process


class Transfer:
    """The transfer of a part of a file into a socket.

    Attributes:
        written: Offset up to which the kernel has taken the file.
        ended: Set once all bytes are written, or no more will be.
        error: The error if the file is the reason why not all bytes were written.
        given_up: Whether the caller has cancelled the transfer.
    """

    def __init__(
        self, lane: SendfileWorker, promised: FileSnapshot, handles: tuple[int, int], span: tuple[int, int]
    ) -> None:
        self.written, self._end = span
        self._checked = self.written
        self.ended = asyncio.Event()
        self.error: FileChangedError | None = None
        self.given_up = False
        self.aside = False  # waits for the file, not for the socket
        self._lane = lane
        self._promised = promised
        self._loop = asyncio.get_running_loop()
        self._file, self.socket = map(os.dup, handles)
        self._leave = promised.follow(self._more)

    def give_up(self) -> None:
        """Stop after the chunk that is being written now."""
        self.given_up = True
        self._lane.tell(self)

    def push(self) -> bool:
        """Write a chunk if there is room, and return whether there is more to write; called in the lane's thread."""
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
        except FileChangedError as error:
            self.error = error
            return False
        except OSError:
            self.error = FileChangedError(f"{self._promised.path.name} cannot be sent from the disk that it is on")
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
        with suppress(RuntimeError):  # the event loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(self.ended.set)


class SendfilePool:
    """The pool of lanes, which are started when needed. Call `stop` after use."""

    def __init__(self) -> None:
        self._lanes: list[SendfileWorker] = []
        self._started = 0

    def start(self, promised: FileSnapshot, handles: tuple[int, int], span: tuple[int, int]) -> Transfer:
        """Start a transfer and return it.

        Args:
            promised: The file as it was advertised; checked until the end.
            handles: Descriptors of file and socket.
            span: Offset of the first byte, and offset after the last.
        """
        if len(self._lanes) < LANES:
            self._lanes.append(SendfileWorker())
        lane = self._lanes[self._started % LANES]
        self._started += 1
        flow = Transfer(lane, promised, handles, span)
        lane.tell(flow)
        return flow

    def stop(self) -> None:
        """Cancel all transfers and end the threads."""
        for lane in self._lanes:
            lane.tell(None)
        for lane in self._lanes:
            lane.join()
        self._lanes.clear()


class SendfileWorker:
    """A thread and its flows."""

    def __init__(self) -> None:
        self._inbox: deque[Transfer | None] = deque()  # new flows, cancelled flows, and None to end the thread
        self._flows: set[Transfer] = set()
        self._aside: set[Transfer] = set()  # those of them that wait for their files
        self._wakes, self._wake = socket.socketpair()
        self._wakes.setblocking(False)
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._work, name="dispatch-pump", daemon=True)
        self._thread.start()

    def tell(self, flow: Transfer | None) -> None:
        """Notify the thread of a new or cancelled flow; None ends the thread."""
        self._inbox.append(flow)
        with suppress(OSError):  # the thread is already awake, or has ended
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
        """Process the inbox, and return whether the thread goes on."""
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

    def _drop(self, flow: Transfer) -> None:
        if flow in self._flows:
            self._flows.remove(flow)
            if flow not in self._aside:
                self._selector.unregister(flow.socket)
            self._aside.discard(flow)
            flow.close()
