"""Still pictures: Pillow behind our own caps."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps

from mmworld.errors import LimitError, MediaError
from mmworld.media.gate import Media
from mmworld.media.pictures import over

if TYPE_CHECKING:
    from torch import Tensor

MAX_FILE_BYTES = 256 << 20


def read(media: Media, *, background: int = 0) -> Tensor:
    """A picture as uint8 [3, H, W], upright RGB.

    The EXIF turn is applied; transparent pixels lie on the grey level `background`; 16-bit samples keep their upper
    byte; CMYK is converted without a profile. A JPEG that ends early keeps what is there (grey below), with the
    warning "truncated".

    Raises:
        MediaError: "no image" (it is something else), "corrupt", "truncated", "format" (float samples).
        LimitError: more pixels, text or bytes than the budget.
    """
    if media.kind != "image":
        raise MediaError("no image", f"{media.name}: no image; is {media.format.words}")
    data = media.open().read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise LimitError("bytes", f"{media.name}: larger than the limit of {MAX_FILE_BYTES} bytes for a picture")
    try:
        image = _open(media, data)
    except MediaError as e:
        if e.code != "truncated" or "JPEG" not in media.format.reader:
            raise
        media.counts["truncated"] += 1
        image = _open(media, data + b"\xff\xd9" * 2)  # an end marker makes the decoder fill the rest
    rgb = _rgb(ImageOps.exif_transpose(image), background, media.name)
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))


def _open(media: Media, data: bytes) -> Image.Image:
    limit = media.budget.image_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=media.format.reader.split(","))
            if image.width * image.height > limit:
                raise LimitError("pixels", f"{media.name}: {image.width}x{image.height}, the limit is {limit} pixels")
            image.load()
    except LimitError:
        raise
    except Image.DecompressionBombError:
        raise LimitError("pixels", f"{media.name}: the limit is {limit} pixels") from None
    except Exception as e:  # Pillow's parsers raise anything on damaged files
        text = str(e)
        if "too large" in text or "MAX_TEXT" in text:
            raise LimitError("metadata", f"{media.name}: compressed text larger than the limit") from None
        code = "truncated" if "truncated" in text or "end of file" in text else "corrupt"
        raise MediaError(code, f"{media.name}: {code} {media.format.words.removeprefix('a ')}") from None
    return image


def _rgb(image: Image.Image, background: int, name: str) -> np.ndarray:
    if image.mode.startswith("I"):
        return np.repeat((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8)[..., None], 3, 2)
    if image.mode == "F":
        raise MediaError("format", f"{name}: float samples have no defined white", hint="convert it to 8 or 16 bit")
    if image.has_transparency_data:
        return over(np.asarray(image.convert("RGBA")), background)
    return np.asarray(image.convert("RGB"))
