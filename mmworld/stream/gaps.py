"""Gaps as they are told of: one that goes on for hours comes in thousands of pieces, and is told of in a few."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mmworld.stream.policy import TICK
from mmworld.types import Chunk, Gap

LONGEST = 60.0
"""Seconds of a gap that are told of at once, at most; the first piece may be longer."""


@dataclass
class _Open:
    """A gap that may go on: its start, how far it goes, and up to where it was told of."""

    gap: Gap
    told: float

    @property
    def rest(self) -> Gap:
        return replace(self.gap, start=self.told)


class Gaps:
    """Follows the gaps of streams. The pieces that are told tile what came: a gap is told of when it begins, again
    whenever it has doubled, at `LONGEST` each minute, and when it ends.
    """

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def take(self, item: Chunk | Gap) -> Iterator[Gap]:
        """What is to be told of, now that this has come."""
        known = self._open.get(item.modality)
        if isinstance(item, Chunk):
            if len(item.data) or item.last:
                yield from self.end(item.modality)
        elif known is not None and _goes_on(known.gap, item):
            known.gap = replace(known.gap, end=max(known.gap.end, item.end))
            if known.gap.end - known.told >= min(known.told - known.gap.start, LONGEST) - TICK:
                yield known.rest
                known.told = known.gap.end
        else:
            yield from self.end(item.modality)
            self._open[item.modality] = _Open(item, item.end)
            yield item

    def end(self, modality: str) -> Iterator[Gap]:
        """What is left to tell of a gap, as it has ended."""
        known = self._open.pop(modality, None)
        if known is not None and known.gap.end > known.told + TICK:
            yield known.rest

    def leaves(self) -> dict[str, Any]:
        """All that is remembered, as JSON takes it."""
        return {name: asdict(o.gap) | {"told": o.told} for name, o in self._open.items()}

    @classmethod
    def restored(cls, values: Mapping[str, Any]) -> Gaps:
        """Those whose `leaves` these are, to go on."""
        self = cls()
        for name, found in values.items():
            gap = {n: x for n, x in found.items() if n != "told"}
            self._open[name] = _Open(Gap(**gap), found["told"])
        return self


def _goes_on(before: Gap, gap: Gap) -> bool:
    same = (before.reason, before.source) == (gap.reason, gap.source)
    return same and math.isclose(before.end, gap.start, abs_tol=TICK)
