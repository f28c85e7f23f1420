"""Animated WebP, which av does not read: composited by Pillow, delivered as decoded frames."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
from PIL import Image

from mmworld.errors import LimitError, MediaError
from mmworld.media.demux import Decoded
from mmworld.media.gate import Media

SHORTEST = 0.011
"""Browsers show a frame that claims less for a tenth of a second."""


def decode(media: Media) -> Iterator[Decoded]:
    """Frames in order, as stream 0.

    Raises:
        LimitError: a frame is larger than the budget for still pictures.
        MediaError: "corrupt"; everything before was delivered.
    """
    data, time, i = media.read_bytes(), 0.0, 0
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            _check(media, image.width * image.height)
            while True:
                frame = av.VideoFrame.from_image(image.convert("RGBA"))
                delay = image.info.get("duration", 0) / 1000
                delay = delay if delay >= SHORTEST else 0.1
                yield Decoded(0, time, delay, frame)
                time, i = time + delay, i + 1
                image.seek(i)
    except EOFError:
        return
    except (MediaError, GeneratorExit):
        raise
    except Exception as e:
        if not i:
            raise MediaError("corrupt", f"{media.name}: corrupt WebP: {str(e)[:80]}") from None
        media.counts["truncated"] += 1


def _check(media: Media, pixels: int) -> None:
    if pixels > media.budget.image_pixels:
        raise LimitError("pixels", f"{media.name}: {pixels} pixels, the limit is {media.budget.image_pixels}")
