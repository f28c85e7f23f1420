"""Frames of a video: all, on a grid of times, or here and there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import av
import numpy as np

from mmworld.errors import MediaError, UsageError
from mmworld.media import animation, probe
from mmworld.media.demux import Decoded, Demuxer
from mmworld.media.gate import Media
from mmworld.media.pictures import Converter, Frame, Pictures, PictureTrack, Times
from mmworld.media.read import picture_track, read, require

Backend = Literal["av", "decord"]
SEEK_STEP = 2.0
"""Without an index, seconds between two times from which on a seek is worth it."""


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
        if isinstance(piece, Frame):
            yield piece


def frames_at(media: Media, times: Sequence[float], *, size: int | None = None, backend: Backend = "av") -> list[Frame]:
    """The picture shown at each of `times` (seconds, any order); beyond either end, the first or the last.

    Raises:
        MediaError: "no video", "empty", or "backend" when decord is asked for something it cannot read.
        UsageError: a time is not finite, the backend is unknown or not installed.
    """
    require(media, video=True)
    if not all(map(math.isfinite, times)):
        raise UsageError("times must be finite")
    if backend not in ("av", "decord"):
        raise UsageError(f"no video backend named {backend!r}", hint="known: av, decord")
    if not (ascending := sorted(set(times))):
        return []
    convert = Converter(size, 0, media.counts)
    found = _decord(media, ascending, convert) if backend == "decord" else _seek(media, ascending, convert)
    return [Frame(time, found[time].data) for time in times]


def uniform(media: Media, n: int, *, size: int | None = None, backend: Backend = "av") -> list[Frame]:
    """`n` pictures at the middles of `n` equal parts of the video's duration; raises as `frames_at` does.

    Raises:
        MediaError: "duration" when the container declares none.
    """
    if n < 1:
        raise UsageError(f"n must be at least 1, is {n}")
    if not media.duration:
        raise MediaError("duration", f"{media.name}: declares no duration", hint="use frames() with an fps")
    step = media.duration / n
    return frames_at(media, [(i + 0.5) * step for i in range(n)], size=size, backend=backend)


def _seek(media: Media, times: list[float], convert: Converter) -> dict[float, Frame]:
    found: dict[float, Frame] = {}
    if media.format.reader == "WEBP":
        found = _take(animation.decode(media), picture_track(media, Times(times), convert, times[0]))
    else:
        with media.container() as opened:
            stream = probe.best(opened, "video")
            for run in _runs(opened, stream, times):
                track = picture_track(media, Times(run), convert, run[0])
                found |= _take(Demuxer(media, opened, [stream], run[0], track.wanted), track)
    if len(found) < len(times):
        raise MediaError("empty", f"{media.name}: no frame could be decoded", hint="; ".join(media.warnings))
    return found


def _take(source: Iterable[Decoded], track: PictureTrack) -> dict[float, Frame]:
    found: dict[float, Frame] = {}
    for decoded in source:
        found |= {frame.time: frame for frame in track.push(*decoded[1:4])}
        if track.done:
            return found
    return found | {frame.time: frame for frame in track.flush()}


def _runs(opened: Any, stream: Any, times: list[float]) -> list[list[float]]:
    """`times` cut wherever a key frame lies between two of them: there it is quicker to seek than to decode on."""
    key_frames = _key_times(opened, stream)
    runs: list[list[float]] = []
    for time in times:
        key = key_frames[np.searchsorted(key_frames, time, side="right") - 1] if len(key_frames) else time - SEEK_STEP
        if runs and key <= runs[-1][-1]:
            runs[-1].append(time)
        else:
            runs.append([time])
    return runs


def _key_times(opened: Any, stream: Any) -> np.ndarray:
    base, origin = float(stream.time_base), float(probe.origin(opened))
    keys = [entry.timestamp * base - origin for entry in stream.index_entries if entry.is_keyframe]
    return np.array(keys if len(keys) > 1 else [])


def _decord(media: Media, times: list[float], convert: Converter) -> dict[float, Frame]:
    try:
        import decord
    except ImportError:
        raise UsageError("decord is not installed", hint="pip install 'mmworld[decord]'") from None
    if media.path is None:
        raise MediaError("backend", f"{media.name}: decord reads files only", hint="use backend='av'")
    decord.logging.set_level(decord.logging.QUIET)
    try:
        video = decord.VideoReader(str(media.path), num_threads=probe.THREADS)
        shown = video.get_frame_timestamp(np.arange(len(video)))[:, 0]
        indices = np.clip(np.searchsorted(shown - shown.min(), np.array(times) + 1e-6, side="right") - 1, 0, None)
        pictures = [video[int(i)].asnumpy() for i in indices]
    except (decord.DECORDError, RuntimeError) as e:
        reason = str(e).splitlines()[0][:80]
        raise MediaError("backend", f"{media.name}: decord: {reason}", hint="use backend='av'") from None
    found = [convert(av.VideoFrame.from_ndarray(p, format="rgb24")) for p in pictures]
    return {time: Frame(time, data) for time, data in zip(times, found, strict=True)}
