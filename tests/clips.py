"""Clips made by the tests themselves: every picture carries its own number, every sound is a known tone."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from mmworld.media.audio import samples
from mmworld.media.gate import open_media
from mmworld.types import Source

BITS = 8


def numbered(i: int, width: int = 64, height: int = 64, pix_fmt: str = "rgb24") -> np.ndarray:
    """A picture uint8 [H, W, 3] whose 8 vertical stripes are the bits of `i`, the first dimmed below the middle row
    to mark "up".
    """
    bits = np.array([(i >> b) & 1 for b in range(BITS)], np.uint8)
    row = 32 + 190 * bits[np.arange(width) * BITS // width]
    picture = np.repeat(np.repeat(row[None, :, None], height, 0), 3, 2).astype(np.uint8)
    picture[height // 2 :, :, 2] //= 2
    return picture


def number(data: Any) -> int:
    """The number in a picture [3, H, W] (a tensor or an array) made by `numbered`, scaled or not."""
    x = np.asarray(data, np.float32)
    centres = ((np.arange(BITS) + 0.5) * x.shape[2] / BITS).astype(int)
    stripes = x[0][: max(x.shape[1] // 2, 1)].mean(0)[centres]
    return int(sum(1 << b for b in range(BITS) if stripes[b] > 127))


def tone(
    seconds: float, rate: int = 44100, channels: int = 1, hertz: float = 440.0, amplitude: float = 0.5
) -> np.ndarray:
    """float32 [S, C]: channel c is a sine of (c + 1) * hertz."""
    t = np.arange(round(seconds * rate)) / rate
    pitch = hertz * (1 + np.arange(channels))
    return (amplitude * np.sin(2 * np.pi * t[:, None] * pitch)).astype(np.float32)


def clip(
    n_frames: int = 30,
    *,
    fps: int | Fraction = 30,
    width: int = 64,
    height: int = 64,
    codec: str = "libx264",
    container: str = "mp4",
    pix_fmt: str = "yuv420p",
    pts: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    pictures: Sequence[np.ndarray] | None = None,
    picture_format: str = "rgb24",
    sound: np.ndarray | None = None,
    sound_rate: int = 44100,
    sound_codec: str = "aac",
    sound_start: float = 0.0,
    color_range: int | None = None,
    colorspace: int | None = None,
) -> bytes:
    """A video file in memory: `n_frames` numbered pictures, with `sound` [S, C] beside them if given.

    Args:
        pts: of each frame, in units of 1 / (fps * 1000) seconds; default: evenly spaced at `fps`.
        options, muxing: of the encoder and of the container.
        pictures: instead of the numbered ones, uint8 [H, W, 3 or 4] as `picture_format`.
        sound_start: seconds by which the sound is stamped later.
    """
    base = 1 / (Fraction(fps) * (1000 if pts is not None else 1))
    with tempfile.NamedTemporaryFile() as file, av.open(file.name, "w", format=container, options=muxing or {}) as out:
        stream = out.add_stream(codec, rate=Fraction(fps), options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = base
        if color_range is not None:
            stream.codec_context.color_range = color_range
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        speaker = _add_sound(out, sound, sound_rate, sound_codec)
        packets: list[Any] = []
        for i in range(n_frames):
            picture = pictures[i] if pictures is not None else numbered(i, width, height)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=picture_format)
            frame.pts, frame.time_base = (pts[i] if pts is not None else i), base
            if color_range is not None or colorspace is not None:
                frame = frame.reformat(format=pix_fmt, dst_color_range=color_range, dst_colorspace=colorspace)
            packets += stream.encode(frame)
        packets += stream.encode()
        if speaker is not None and sound is not None:
            packets += _encode(speaker, sound, sound_rate, sound_start)
        for packet in sorted(packets, key=lambda p: float((p.dts if p.dts is not None else p.pts or 0) * p.time_base)):
            out.mux(packet)
        out.close()
        return Path(file.name).read_bytes()


def sound_file(
    x: np.ndarray,
    rate: int = 44100,
    *,
    codec: str = "pcm_s16le",
    container: str = "wav",
    layout: str | None = None,
    muxing: dict[str, str] | None = None,
) -> bytes:
    """An audio file in memory holding `x` float32 [S, C]."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=muxing or {}) as out:
        stream = _add_sound(out, x, rate, codec, layout)
        for packet in _encode(stream, x, rate, 0.0, layout):
            out.mux(packet)
    return file.getvalue()


def _layout(x: np.ndarray) -> str:
    return {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(x.shape[1], f"{x.shape[1]} channels")


def _add_sound(out: Any, x: np.ndarray | None, rate: int, codec: str, layout: str | None = None) -> Any:
    if x is None:
        return None
    stream = out.add_stream(codec, rate=rate)
    stream.codec_context.layout = layout or _layout(x)
    if codec.startswith("pcm") or codec in ("flac",):
        stream.codec_context.format = av.Codec(codec, "w").audio_formats[0]
    return stream


def _encode(stream: Any, x: np.ndarray, rate: int, start: float, layout: str | None = None) -> list[Any]:
    packets: list[Any] = []
    size = 1024
    for i in range(0, len(x), size):
        part = np.ascontiguousarray(x[i : i + size], np.float32)
        frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="flt", layout=layout or _layout(x))
        frame.sample_rate, frame.pts, frame.time_base = rate, i + round(start * rate), Fraction(1, rate)
        packets += stream.encode(frame)
    return packets + list(stream.encode())


def sound_of(source: Source, rate: int | None = 16_000, end: float | None = None) -> Tensor:
    """The sound of a file [S] until `end` seconds, the mean of its channels; None is the rate at which it is stored."""
    return torch.cat([piece.data[:, 0] for piece in samples(open_media(source), rate=rate, end=end, mono=True)])


def wav(data: bytes, rate: int, channels: int, *, bits: int = 16, code: int = 1, length: int | None = None) -> bytes:
    """A WAV file with any header one likes; `code` 1 PCM, 3 float, 7 mu-law; `length` is what the data chunk claims."""
    block = max(channels * bits // 8, 1) & 0xFFFF
    fields = struct.pack("<HHIIHH", code, channels & 0xFFFF, rate, (rate * block) & 0xFFFFFFFF, block, bits)
    claimed = len(data) if length is None else length
    body = b"WAVEfmt " + struct.pack("<I", len(fields)) + fields + b"data" + struct.pack("<I", claimed) + data
    return b"RIFF" + struct.pack("<I", min(len(body) if length is None else 0xFFFFFFFF, 0xFFFFFFFF)) + body


def rotated(mp4: bytes, quarter_turns: int, mirror: bool = False) -> bytes:
    """The same MP4, shown turned clockwise by `quarter_turns` (the matrix of its first track), mirrored left to right
    before that.
    """
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarter_turns % 4]
    a, b = (-cos, -sin) if mirror else (cos, sin)
    one = 1 << 16
    matrix = struct.pack(">9i", a * one, b * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30)
    at = mp4.index(b"tkhd") + 4 + 4 + 20 + 16  # version 0: flags, times and ids, then layer, volume
    return mp4[:at] + matrix + mp4[at + 36 :]


def box(kind: bytes, payload: bytes) -> bytes:
    """One MP4 box."""
    return struct.pack(">I4s", len(payload) + 8, kind) + payload
