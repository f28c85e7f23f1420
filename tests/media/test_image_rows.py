"""Pictures that go wrong, rows I1 to I6 of the contract."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmworld.errors import LimitError, MediaError
from mmworld.media.budget import Budget
from mmworld.media.gate import open_media
from mmworld.media.image import read
from mmworld.media.video import frames


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes) -> bytes:
    """A black grey-scale PNG; its raster is one deflated run, however large."""
    deflate = zlib.compressobj(9)
    raster = b"".join(deflate.compress(bytes(width + 1)) for _ in range(height)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", raster), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def picture() -> Image.Image:
    """Left half red, right half blue, one white corner at the top left."""
    x = np.zeros((40, 60, 3), np.uint8)
    x[:, :30, 0] = x[:, 30:, 2] = 255
    x[:10, :10] = 255
    return Image.fromarray(x)


def close(data: Any, expected: Image.Image, tolerance: float = 6.0) -> bool:
    other = np.asarray(expected.convert("RGB"), float).transpose(2, 0, 1)
    return data.shape == other.shape and bool(np.abs(data.numpy() - other).mean() < tolerance)


@pytest.mark.parametrize("side", [20_000, 13_000])
def test_i1_i2_refused_before_the_raster(side):
    data = png(side, 8)
    data = data.replace(struct.pack(">II", side, 8), struct.pack(">II", side, side))
    header = data[12:29]
    data = data[:29] + struct.pack(">I", zlib.crc32(header)) + data[33:]
    with pytest.raises(LimitError, match="pixels"):
        read(open_media(data))


def test_i2_the_cap_is_our_own():
    assert read(open_media(png(100, 100))).shape == (3, 100, 100)
    with pytest.raises(LimitError, match="100x100, the limit is 5000"):
        read(open_media(png(100, 100), budget=Budget(image_pixels=5000)))


def test_i3_compressed_text_and_profile_bombs():
    bomb = zlib.compress(bytes(200 << 20), 1)
    for extra in (
        chunk(b"zTXt", b"x\0\0" + bomb),
        chunk(b"iCCP", b"x\0\0" + bomb),
        chunk(b"iTXt", b"x\0\1\0\0\0" + bomb),
    ):
        with suppress(MediaError):
            assert read(open_media(png(4, 4, extra))).shape == (3, 4, 4)  # or the bomb is left packed


@pytest.mark.parametrize(
    "head",
    [
        b"SIMPLE  =                    T",
        b"8BPS\0\1",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"%PDF-1.7",
    ],
)
def test_i4_formats_off_the_list(tmp_path, head):
    path = tmp_path / "x.png"
    path.write_bytes(head + bytes(2000))
    with pytest.raises(MediaError, match="format not allowed"):
        open_media(path)


def test_i4_only_the_format_that_was_sniffed_is_parsed():
    gif = b"\x89PNG\r\n\x1a\n" + b"GIF89a" + bytes(100)
    with pytest.raises(MediaError):
        read(open_media(gif))


def test_i5_truncated_jpeg_keeps_what_is_there():
    data = saved(picture().resize((600, 400)), "JPEG", quality=95)
    media = open_media(data[: len(data) // 2])
    x = read(media)
    assert x.shape == (3, 400, 600)
    assert "truncated" in media.warnings
    whole = read(open_media(data))
    assert (x[:, :100] == whole[:, :100]).all()


def test_i5_truncated_png_is_refused():
    data = saved(Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)))
    with pytest.raises(MediaError) as caught:
        read(open_media(data[: len(data) // 2]))
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("turn", range(1, 9))
def test_i5_exif_turns(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = {  # how the camera stored the upright picture
        1: picture(),
        2: picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: picture().transpose(Image.Transpose.ROTATE_180),
        4: picture().transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: picture().transpose(Image.Transpose.TRANSPOSE),
        6: picture().transpose(Image.Transpose.ROTATE_90),
        7: picture().transpose(Image.Transpose.TRANSVERSE),
        8: picture().transpose(Image.Transpose.ROTATE_270),
    }[turn]
    assert close(read(open_media(saved(stored, "JPEG", exif=exif, quality=95))), picture())


def test_i5_other_colour_models():
    assert close(read(open_media(saved(picture().convert("CMYK"), "JPEG", quality=95))), picture(), 12)
    assert close(read(open_media(saved(picture().convert("P")))), picture())
    assert close(read(open_media(saved(picture().convert("L")))), picture().convert("L"))
    assert close(read(open_media(saved(picture(), "MPO", save_all=True, append_images=[picture()]))), picture())
    for form in ("BMP", "TIFF", "PPM", "WEBP"):
        options = {"lossless": True} if form == "WEBP" else {}
        assert close(read(open_media(saved(picture(), form, **options))), picture())


def test_i5_sixteen_bits_keep_the_upper_byte():
    x = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    y = read(open_media(saved(Image.fromarray(x))))
    assert (y.numpy() == (x >> 8)[None]).all()


@pytest.mark.parametrize("background", [0, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_i5_transparency_lies_on_the_background(mode, background):
    x = np.full((20, 20, 4), 200, np.uint8)
    x[..., 3] = np.repeat([0, 255], 10)[:, None]
    image = Image.fromarray(x)
    options: dict[str, Any] = {}
    if mode == "P":
        image = Image.fromarray(np.repeat([[0], [1]], 10, 0).repeat(20, 1).astype(np.uint8), "P")
        image.putpalette([0, 0, 0, 200, 200, 200])
        options = {"transparency": 0}
    y = read(open_media(saved(image.convert(mode), **options)), background=background)
    assert (y[:, :10] == background).all()
    assert (y[:, 10:] == 200).all()


def animated(form: str, n: int, delay: int) -> bytes:
    images = [Image.new("RGB", (8, 8), (i % 256, i // 256, 0)) for i in range(n)]
    return saved(images[0], form, save_all=True, append_images=images[1:], duration=delay, lossless=True, loop=0)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_i6_animations_are_video(form):
    media = open_media(animated(form, 10, 50))
    assert media.kind == "video"
    found = list(frames(media))
    assert np.allclose([f.time for f in found], np.arange(10) / 20, atol=0.011)
    assert [int(f.data[0, 0, 0]) for f in found] == pytest.approx(list(range(10)), abs=2)


@pytest.mark.parametrize("form", ["GIF", "WEBP"])
def test_i6_frames_have_a_budget_and_a_delay_of_zero_is_a_tenth_of_a_second(form):
    data = animated(form, 300, 0)
    assert next(f.time for i, f in enumerate(frames(open_media(data))) if i == 10) == pytest.approx(1.0)
    found = []
    with pytest.raises(LimitError, match="more than 100 frames"):
        found.extend(frames(open_media(data, budget=Budget(frames=100))))
    assert len(found) == 100  # `extend` keeps what came before the error


def test_other_kinds_are_named():
    with pytest.raises(MediaError, match="no image; is GIF"):
        read(open_media(animated("GIF", 2, 50)))


def test_damaged_pictures_raise_nothing_but_our_errors():
    rng = np.random.default_rng(0)
    for form in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM"):
        data = saved(picture(), form)
        for _ in range(40):
            broken = bytearray(data)
            for at in rng.integers(8, len(broken), 4):
                broken[at] = rng.integers(256)
            with suppress(MediaError):
                assert read(open_media(bytes(broken))).shape[0] == 3
