"""Which of what was said answers which event, by their times."""

from __future__ import annotations

from collections.abc import Sequence

from mmworld.types import Caption


def answered(said: Sequence[Caption], true: Sequence[Caption], tolerance: float) -> dict[int, int]:
    """Index of an event to that of what answers it, one to one and in order, as many as there can be."""
    found: dict[int, int] = {}
    i = j = 0
    while i < len(said) and j < len(true):
        late = said[i].end - true[j].end
        if abs(late) <= tolerance + 1e-6:
            found[j] = i
        i, j = i + (late <= tolerance + 1e-6), j + (late >= -tolerance - 1e-6)
    return found
