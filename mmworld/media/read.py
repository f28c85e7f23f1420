"""The one pass over a medium from which all reading is made: pictures and sound on one clock, in time order,
bounded.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import count

from mmworld.errors import MediaError
from mmworld.media import animation, probe
from mmworld.media.demux import Decoded, Demuxer
from mmworld.media.gate import Media
from mmworld.media.pictures import Converter, Frame, Grid, Hole, Pictures, PictureTrack, Times
from mmworld.media.sound import Samples, Sound, SoundTrack

HELD_BYTES = 64 << 20
"""Of pieces that wait for the other stream; if streams lie further apart, pieces come out of order, with a warning."""

Track = PictureTrack | SoundTrack
Piece = Frame | Samples | Hole


def read(
    media: Media,
    *,
    video: Pictures | None = None,
    audio: Sound | None = None,
    start: float = 0.0,
    end: float | None = None,
) -> Iterator[Piece]:
    """Decode `media` once, from `start` to `end` seconds, and yield `Frame`, `Samples`, and where they are asked for
    `Hole`, in time order as they become known.

    At most `HELD_BYTES` of pieces and one decoded frame wait inside. What was salvaged is in `media.warnings`.

    Raises:
        MediaError: there is no such stream ("no video", "no audio"), or not one frame of it could be decoded ("empty").
        LimitError: the file goes beyond the budget; everything before was delivered.
        SourceError: a stream that cannot seek is read twice.
    """
    require(media, video=video is not None, audio=audio is not None)
    stop = math.inf if end is None else end
    if media.format.reader == "WEBP" and video is not None:
        track = picture_track(
            media, video.plan(start), Converter(video.size, video.background, media.counts), start, stop
        )
        yield from _pieces(media, animation.decode(media), {0: track})
        return
    with media.container() as opened:
        tracks: dict[int, Track] = {}
        wanted = None
        if video is not None:
            convert = Converter(video.size, video.background, media.counts)
            pictures = picture_track(media, video.plan(start), convert, start, stop, video.holes)
            tracks[probe.best(opened, "video").index], wanted = pictures, pictures.wanted
        if audio is not None:
            sound = SoundTrack(audio, start, stop, media.counts, media.budget.seconds)
            tracks[probe.best(opened, "audio").index] = sound
        demuxer = Demuxer(media, opened, [opened.streams[i] for i in tracks], start, wanted)
        yield from _merge(_pieces(media, demuxer, tracks), list(tracks.values()), media)


def picture_track(
    media: Media,
    plan: Grid | Times | None,
    convert: Converter,
    start: float,
    end: float = math.inf,
    holes: bool = False,
) -> PictureTrack:
    """A track within the budget of `media`."""
    limits = media.budget
    return PictureTrack(
        plan,
        convert,
        start=start,
        end=end,
        counts=media.counts,
        max_frames=limits.frames,
        max_seconds=limits.seconds,
        holes=holes,
    )


def require(media: Media, *, video: bool = False, audio: bool = False) -> None:
    """MediaError, naming what there is instead, unless `media` has the streams."""
    if video and not media.has_video:
        what = f"is {media.format.words}" if media.kind not in ("video", "audio") else "has audio"
        hint = "try transcribe" if media.has_audio else ""
        raise MediaError("no video", f"{media.name}: no video; {what}", hint=hint)
    if audio and not media.has_audio:
        what = f"is {media.format.words}" if media.kind not in ("video", "audio") else "has video"
        raise MediaError("no audio", f"{media.name}: no audio; {what}")


def _pieces(media: Media, source: Iterable[Decoded], tracks: Mapping[int, Track]) -> Iterator[Piece]:
    n_frames = 0
    for stream, *decoded in source:
        n_frames += isinstance(tracks[stream], PictureTrack)
        if not tracks[stream].done:
            yield from tracks[stream].push(*decoded)
        elif all(track.done for track in tracks.values()):
            break
    for track in tracks.values():
        yield from track.flush()
    if not n_frames and any(isinstance(t, PictureTrack) for t in tracks.values()):
        raise MediaError("empty", f"{media.name}: no frame could be decoded", hint="; ".join(media.warnings))


def _merge(pieces: Iterator[Piece], tracks: list[Track], media: Media) -> Iterator[Piece]:
    """Hold each piece until no track can give an earlier one; on an error, first give what is held."""
    heap: list[tuple[float, int, Piece]] = []
    order, held = count(), 0
    try:
        for piece in pieces:
            heapq.heappush(heap, (piece.time, next(order), piece))
            held += _size(piece)
            ready = min((track.clock for track in tracks if not track.done), default=math.inf)
            while heap and (heap[0][0] <= ready or held > HELD_BYTES):
                if heap[0][0] > ready:
                    media.counts["streams far apart"] = 1
                held -= _size(heap[0][2])
                yield heapq.heappop(heap)[2]
    except MediaError:
        yield from _drained(heap)
        raise
    yield from _drained(heap)


def _drained(heap: list[tuple[float, int, Piece]]) -> Iterator[Piece]:
    while heap:
        yield heapq.heappop(heap)[2]


def _size(piece: Piece) -> int:
    """Bytes of a piece."""
    return 0 if isinstance(piece, Hole) else piece.data.nbytes
