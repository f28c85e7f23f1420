"""The one pass over a medium from which all reading is made: pictures and sound on one clock, in time order,
bounded.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from itertools import count
from typing import Any

from mmworld.errors import MediaError
from mmworld.media import probe
from mmworld.media.demux import Demuxer
from mmworld.media.gate import Media
from mmworld.media.pictures import Converter, Frame, Grid, Pictures, PictureTrack, Times
from mmworld.media.sound import Samples, Sound, SoundTrack

HELD = 64
"""Pieces that wait for the other stream at most; a file whose streams lie further apart is delivered out of order,
with a warning.
"""
TRUNCATED = 0.02
"""A file that ends this share (and a second) before its declared end is reported as cut."""
_DURATION_KNOWN = ("mov", "matroska", "avi", "wav", "flac", "ogg", "flv")

Track = PictureTrack | SoundTrack


def read(
    media: Media,
    *,
    video: Pictures | None = None,
    audio: Sound | None = None,
    start: float = 0.0,
    end: float | None = None,
) -> Iterator[Frame | Samples]:
    """Decode `media` once, from `start` to `end` seconds, and yield `Frame` and `Samples` in time order as they
    become known.

    At most `HELD` pieces and one decoded frame wait inside. What was salvaged is in `media.warnings`.

    Raises:
        MediaError: there is no such stream ("no video", "no audio"), or not one frame of it could be decoded ("empty").
        LimitError: the file goes beyond the budget; everything before was delivered.
        SourceError: a stream that cannot seek is read twice.
    """
    require(media, video=video is not None, audio=audio is not None)
    stop = math.inf if end is None else end
    with media.container() as opened:
        tracks: dict[int, Track] = {}
        if video is not None:
            stream = probe.best(opened, "video")
            plan = Grid(start, video.fps) if video.fps else None
            convert = Converter(video.size, video.background, media.counts)
            tracks[stream.index] = picture_track(media, plan, convert, start, stop)
        if audio is not None:
            stream = probe.best(opened, "audio")
            tracks[stream.index] = SoundTrack(audio, start, stop, media.counts, media.budget.seconds)
        yield from _merge(_pieces(media, opened, tracks, start, stop), list(tracks.values()), media)


def picture_track(
    media: Media, plan: Grid | Times | None, convert: Converter, start: float, end: float = math.inf
) -> PictureTrack:
    """A track within the budget of `media`."""
    limit = media.budget.frames
    return PictureTrack(plan, convert, start=start, end=end, counts=media.counts, max_frames=limit)


def require(media: Media, *, video: bool = False, audio: bool = False) -> None:
    """MediaError, naming what there is instead, unless `media` has the streams."""
    if video and not media.has_video:
        what = f"is {media.format.words}" if media.kind not in ("video", "audio") else "has audio"
        hint = "try transcribe" if media.has_audio else ""
        raise MediaError("no video", f"{media.name}: no video; {what}", hint=hint)
    if audio and not media.has_audio:
        what = f"is {media.format.words}" if media.kind not in ("video", "audio") else "has video"
        raise MediaError("no audio", f"{media.name}: no audio; {what}")


def _pieces(
    media: Media, opened: Any, tracks: dict[int, Track], start: float, stop: float
) -> Iterator[Frame | Samples]:
    pictures = next((t for t in tracks.values() if isinstance(t, PictureTrack)), None)
    demuxer = Demuxer(media, opened, [opened.streams[i] for i in tracks], start, pictures.wanted if pictures else None)
    n_frames = 0
    for stream, time, duration, frame in demuxer:
        n_frames += 1
        if not tracks[stream].done:
            yield from tracks[stream].push(time, duration, frame)
        elif all(track.done for track in tracks.values()):
            break
    else:
        _check_end(media, opened, demuxer.end)
    for track in tracks.values():
        yield from track.flush()
    if not n_frames and pictures is not None and start == 0:
        raise MediaError("empty", f"{media.name}: no frame could be decoded", hint="; ".join(media.warnings))


def _check_end(media: Media, opened: Any, end: float) -> None:
    declared = media.duration
    if declared and opened.format.name.startswith(_DURATION_KNOWN) and end < declared * (1 - TRUNCATED) - 1:
        media.counts["truncated"] += 1


def _merge(pieces: Iterator[Frame | Samples], tracks: list[Track], media: Media) -> Iterator[Frame | Samples]:
    """Hold each piece until no track can give an earlier one."""
    heap: list[tuple[float, int, Frame | Samples]] = []
    order = count()
    for piece in pieces:
        heapq.heappush(heap, (piece.time, next(order), piece))
        ready = min((track.clock for track in tracks if not track.done), default=math.inf)
        while heap and (heap[0][0] <= ready or len(heap) > HELD):
            if heap[0][0] > ready:
                media.counts["streams far apart"] = 1
            yield heapq.heappop(heap)[2]
    while heap:
        yield heapq.heappop(heap)[2]
