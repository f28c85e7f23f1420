"""What would be said by now of a segment that goes on, and what of it has settled."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmworld.types import Caption


@dataclass(frozen=True)
class Provisional:
    """What would be said by now; the segment's caption, when it ends, is made without regard to it.

    Attributes:
        caption: it, from the segment's start to now.
        settled: the words with which it begins that the one before of the same segment began with, too.
    """

    caption: Caption
    settled: str = ""


@dataclass
class Agreement:
    """Follows the provisional captions of a stream: two in a row settle what they begin with alike (local agreement,
    Liu et al. 2020, section 2.2; Macháček et al. 2023, section 2).

    Attributes:
        start: of the segment, seconds.
        words: of its last provisional caption.
    """

    start: float = -math.inf
    words: tuple[str, ...] = ()

    def add(self, caption: Caption) -> Provisional:
        """The next provisional caption, with what of it is settled."""
        before = self.words if caption.start == self.start else ()
        self.start, self.words = caption.start, tuple(caption.text.split())
        n = next((i for i, (a, b) in enumerate(zip(before, self.words, strict=False)) if a != b), None)
        n = min(len(before), len(self.words)) if n is None else n
        return Provisional(caption, " ".join(self.words[:n]))
