"""The shapes of charts: bars in slots, scaled to the highest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 10, 100  # units of a slot; a page stretches them
GAP = 1.5  # units between two slots
LEAST = 1.5  # units of the smallest bar that is not nothing, so that it can be seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar of a chart, in units from its upper left corner."""

    kind: str
    x: float
    y: float
    height: float
    width: float = WIDTH - GAP


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A chart.

    Attributes:
        width: Its width, in units.
        highest: What its whole height stands for.
    """

    width: int
    highest: float
    bars: tuple[Bar, ...]

    @property
    def paths(self) -> dict[str, str]:
        """Return the bars of each kind as one path (https://www.w3.org/TR/SVG2/paths.html): a third of the bytes."""
        found = dict[str, list[str]]()
        for bar in self.bars:
            path = f"M{bar.x:g} {bar.y:g}h{bar.width:g}v{bar.height:g}h-{bar.width:g}z"
            found.setdefault(bar.kind, []).append(path)
        return {kind: "".join(paths) for kind, paths in found.items()}


def stacked(slots: Sequence[Sequence[tuple[str, float]]]) -> Bars:
    """Return a chart of slots with parts on top of each other: what each is, and how much."""
    highest = max((sum(value for _, value in slot) for slot in slots), default=0.0)
    bars = list[Bar]()
    for place, slot in enumerate(slots):
        top = float(HEIGHT)
        for kind, value in slot:
            if value:
                height = max(LEAST, HEIGHT * value / highest)
                top -= height
                bars.append(Bar(kind=kind, x=place * WIDTH, y=round(max(0.0, top), 2), height=round(height, 2)))
    return Bars(width=len(slots) * WIDTH, highest=highest, bars=tuple(bars))


def overlaid(slots: Sequence[Sequence[tuple[str, float]]]) -> Bars:
    """Return a chart of slots with bars in front of each other, the last one foremost."""
    highest = max((value for slot in slots for _, value in slot), default=0.0)
    bars = tuple(
        Bar(kind=kind, x=place * WIDTH, y=round(HEIGHT - height, 2), height=round(height, 2))
        for place, slot in enumerate(slots)
        for kind, value in slot
        if (height := max(LEAST, HEIGHT * value / highest) if highest else 0.0)
    )
    return Bars(width=len(slots) * WIDTH, highest=highest, bars=bars)
