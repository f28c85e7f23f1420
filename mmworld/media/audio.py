"""The sound of any medium as one seamless signal."""

from __future__ import annotations

from collections.abc import Iterator

from mmworld.media.gate import Media
from mmworld.media.read import read
from mmworld.media.sound import Samples, Sound


def samples(
    media: Media, *, rate: int | None = None, start: float = 0.0, end: float | None = None, mono: bool = False
) -> Iterator[Samples]:
    """`Samples(time, float32 [S, C])` pieces that tile the time from `start` until `end` seconds.

    Args:
        rate: samples a second; None: as stored.
        mono: the mean of all channels.

    Raises:
        MediaError: "no audio".
        LimitError: beyond the budget.
    """
    for piece in read(media, audio=Sound(rate, mono), start=start, end=end):
        if isinstance(piece, Samples):
            yield piece
