"""The limits of the media gate, in one place. What asks for more is refused with LimitError before it is allocated."""

from __future__ import annotations

from dataclasses import dataclass

SNIFF_BYTES = 1 << 16
"""How much of a source is looked at before anything parses it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one input may cost.

    Attributes:
        pixels: of one video frame (8192 x 4352, the largest level of HEVC and AV1).
        image_pixels: of one still picture.
        frames, seconds: decoded from one input.
        bytes: of one file that is read whole (images, clouds, series).
        spool_bytes: written to a temporary file for a source that cannot seek but must.
        fetch_bytes, fetch_seconds: of one download.
        data_bytes: of a `data:` address after decoding.
        header_bytes: metadata and index of a container.
        errors: broken packets before decoding stops.
        points: kept of one cloud; a larger one is thinned as it is read.
    """

    pixels: int = 8192 * 4352
    image_pixels: int = 64_000_000
    frames: int = 10_000_000
    seconds: float = 2 * 86400.0
    bytes: int = 4 << 30
    spool_bytes: int = 512 << 20
    fetch_bytes: int = 2 << 30
    fetch_seconds: float = 60.0
    data_bytes: int = 64 << 20
    header_bytes: int = 64 << 20
    streams: int = 16
    chapters: int = 1000
    channels: int = 32
    rates: tuple[int, int] = (4_000, 384_000)
    errors: int = 10_000
    points: int = 2_000_000
