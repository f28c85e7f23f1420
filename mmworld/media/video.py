"""Frames of a video: all, on a grid of times, or here and there."""

from __future__ import annotations

from collections.abc import Iterator

from mmworld.media.gate import Media
from mmworld.media.pictures import Frame, Pictures
from mmworld.media.read import read


def frames(
    media: Media, *, fps: float | None = None, size: int | None = None, start: float = 0.0, end: float | None = None
) -> Iterator[Frame]:
    """`Frame(time, uint8 [3, H, W])`, upright RGB, from `start` until `end` seconds.

    Args:
        fps: the picture shown at each time start + i / fps; None: every picture at its own time.
        size: side of the square cut from the middle after the short side was scaled to it; None: full size.

    Raises:
        MediaError: "no video", or "empty" when nothing can be decoded.
        LimitError: beyond the budget.
    """
    for piece in read(media, video=Pictures(fps, size), start=start, end=end):
        assert isinstance(piece, Frame)
        yield piece
