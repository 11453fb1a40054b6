"""Records which bytes of their workloads machines have downloaded, over any number of requests."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_SPANS = 256  # maximum number of separate pieces of a download; no boot client needs more


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes of a workload that a request asked for: from `start` to before `end`, received up to `reached`.

    Attributes:
        tag: Tag of the bytes; other bytes have another tag.
        lacking: Whether the request ended because the lab did not have the rest.
    """

    start: int
    end: int
    reached: int
    size: int
    tag: str = ""
    lacking: bool = False


@dataclass(slots=True)
class _Download:
    of: tuple[str, int, str]  # run, attempt, and the tag of the bytes
    spans: list[tuple[int, int]] = field(default_factory=list)

    def add(self, start: int, end: int) -> None:
        """Record bytes as taken; adjacent spans are merged."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted([*self.spans, (start, end)]):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        self.spans = merged[:MOST_SPANS]


class Downloads:
    """The latest download of each machine, which may request its workload as a whole, or by ranges in any order."""

    def __init__(self) -> None:
        self._latest: dict[str, _Download] = {}

    def may_go_on(self, machine: str, run: str, attempt: int, tag: str) -> bool:
        """Return whether bytes with this tag may continue the machine's download of an attempt."""
        download = self._latest.get(machine)
        return download is None or download.of[:2] != (run, attempt) or download.of[2] == tag

    def begin(self, machine: str, run: str, attempt: int, tag: str = "", *, whole: bool) -> None:
        """Record that a request begins; `whole` means that it asks for all bytes, so the download starts anew."""
        download = self._latest.get(machine)
        if whole or download is None or download.of != (run, attempt, tag):
            self._latest[machine] = _Download((run, attempt, tag))

    def took(self, machine: str, run: str, attempt: int, part: Part) -> bool:
        """Record that a request has ended, and return whether the machine now has every byte."""
        download = self._latest[machine]
        if download.of != (run, attempt, part.tag):
            return False
        download.add(part.start, part.reached)
        complete = download.spans[0] == (0, part.size)
        if complete:
            download.spans.clear()
        return complete
