"""The only caller of av.open: containers are opened with whitelists and caps, and every stream is checked before it
is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, Any

import av

from mmworld.errors import LimitError, MediaError
from mmworld.media.budget import Budget

_VIDEO = """h264 hevc av1 vp8 vp9 mpeg4 mpeg1video mpeg2video mjpeg prores theora gif apng png ffv1 rawvideo dnxhd h263
    flv1 vc1 wmv1 wmv2 wmv3 msmpeg4v2 msmpeg4v3 dvvideo"""
_AUDIO = """aac mp3 mp2 opus vorbis flac alac ac3 eac3 amr_nb amr_wb speex gsm gsm_ms wavpack wmav1 wmav2 adpcm_ms
    adpcm_ima_wav adpcm_ima_qt adpcm_g722 adpcm_g726 adpcm_swf nellymoser dts"""
VIDEO_CODECS, AUDIO_CODECS = frozenset(_VIDEO.split()), frozenset(_AUDIO.split())
THREADS = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 4)
"""Decoder threads; each holds frames of its own, so their number bounds memory."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What the header says of the pictures; nothing relies on it but messages and plans."""

    index: int
    codec: str
    width: int
    height: int
    fps: float | None
    pixel_format: str


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the header says of the sound: samples a second, and channels."""

    index: int
    codec: str
    rate: int
    channels: int


@contextmanager
def container(file: IO[bytes], demuxers: str, budget: Budget, options: dict[str, str] | None = None) -> Iterator[Any]:
    """`file` as an av container. It is read through its descriptor (or its `read`), so no name is ever parsed by
    FFmpeg.

    Raises:
        MediaError: no such container, or no stream in it can be described.
    """
    fd = _descriptor(file)
    settings = {
        "protocol_whitelist": "fd",
        "format_whitelist": demuxers,
        "probesize": "5000000",
        "analyzeduration": "5000000",
        "max_pixels": str(budget.pixels),
        **(options or {}),
    }
    raw = demuxers if options else None
    if fd is not None:
        settings["fd"] = str(fd)
    source = "fd:" if fd is not None else file
    with av.open(source, format=raw, options=settings, metadata_errors="replace", buffer_size=1 << 16) as opened:
        yield opened


def _descriptor(file: IO[bytes]) -> int | None:
    try:
        return file.fileno()
    except (OSError, AttributeError):
        return None


def check(opened: Any, name: str, budget: Budget) -> tuple[VideoInfo | None, AudioInfo | None]:
    """The picture and the sound stream that will be read, after every limit has been checked.

    Raises:
        LimitError: streams, chapters, metadata, pixels, channels or rate over the budget.
        MediaError: "codec", "encrypted", or "empty" when there is neither picture nor sound.
    """
    if len(opened.streams) > budget.streams:
        raise LimitError("streams", f"{name}: {len(opened.streams)} streams, the limit is {budget.streams}")
    if len(opened.chapters()) > budget.chapters:
        raise LimitError("chapters", f"{name}: {len(opened.chapters())} chapters, the limit is {budget.chapters}")
    size = sum(
        len(k) + len(v) for tags in [opened.metadata, *(s.metadata for s in opened.streams)] for k, v in tags.items()
    )
    if size > budget.header_bytes // 16:
        raise LimitError("metadata", f"{name}: {size} characters of metadata, the limit is {budget.header_bytes // 16}")
    video, audio = (best(opened, kind) for kind in ("video", "audio"))
    if video is None and audio is None:
        raise MediaError("empty", f"{name}: neither pictures nor sound in it")
    return video and _video(video, name, budget), audio and _audio(audio, name, budget)


def best(opened: Any, kind: str) -> Any:
    """FFmpeg's choice among the streams of a kind; cover art is no video."""
    streams = [s for s in opened.streams if s.type == kind and not s.disposition & av.stream.Disposition.attached_pic]
    chosen = opened.streams.best(kind) if streams else None
    return chosen if chosen in streams else (streams[0] if streams else None)


def _codec(stream: Any, name: str, allowed: frozenset[str]) -> str:
    context = stream.codec_context
    tag = getattr(context, "codec_tag", "") if context else ""
    if tag in ("encv", "enca", "drms", "drmi"):
        raise MediaError("encrypted", f"{name}: encrypted {stream.type}", hint="mmworld reads clear files only")
    codec = str(context.codec.canonical_name) if context else "unknown"
    if codec not in allowed and not (stream.type == "audio" and codec.startswith("pcm_")):
        hint = "re-encode it, for example with ffmpeg -i IN -c:v libx264 OUT.mp4"
        raise MediaError("codec", f"{name}: {stream.type} codec not allowed: {codec}", hint=hint)
    return codec


def _video(stream: Any, name: str, budget: Budget) -> VideoInfo:
    codec, context = _codec(stream, name, VIDEO_CODECS), stream.codec_context
    width, height = max(context.width, context.coded_width), max(context.height, context.coded_height)
    if width * height > budget.pixels:
        raise LimitError("pixels", f"{name}: frames of {width}x{height}, the limit is {budget.pixels} pixels")
    rate = stream.average_rate
    fps = float(rate) if rate and 0 < rate <= 1000 else None
    return VideoInfo(stream.index, codec, context.width, context.height, fps, str(context.pix_fmt))


def _audio(stream: Any, name: str, budget: Budget) -> AudioInfo:
    codec, context = _codec(stream, name, AUDIO_CODECS), stream.codec_context
    check_sound(context.sample_rate, context.layout.nb_channels if context.layout else 0, name, budget)
    return AudioInfo(stream.index, codec, context.sample_rate, context.layout.nb_channels)


def check_sound(rate: int, channels: int, name: str, budget: Budget) -> None:
    """LimitError unless the sample rate and the channel count are within the budget."""
    low, high = budget.rates
    if not low <= rate <= high:
        raise LimitError("rate", f"{name}: {rate} samples/s, allowed are {low} to {high}")
    if not 1 <= channels <= budget.channels:
        raise LimitError("channels", f"{name}: {channels} channels, allowed are 1 to {budget.channels}")


def origin(opened: Any) -> Fraction:
    """The earliest declared start of any picture or sound, in seconds, exactly."""
    starts = [
        s.start_time * s.time_base for s in opened.streams if s.type in ("video", "audio") and s.start_time is not None
    ]
    return min(starts, default=Fraction(0))
