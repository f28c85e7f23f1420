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
from mmworld.media.demux import Decoded, Demuxer, Later
from mmworld.media.gate import Media
from mmworld.media.later import later
from mmworld.media.pictures import Converter, Frame, Grid, Pictures, PictureTrack, Times
from mmworld.media.sound import Samples, Sound, SoundTrack
from mmworld.types import Gap

HELD_BYTES = 64 << 20
"""Of pieces that wait for the other stream; if streams lie further apart, pieces come out of order, with a warning."""

Track = PictureTrack | SoundTrack
Piece = Frame | Samples | Gap


def read(
    media: Media,
    *,
    video: Pictures | None = None,
    audio: Sound | None = None,
    start: float = 0.0,
    end: float | None = None,
    since: float | None = None,
    gaps: bool = False,
) -> Iterator[Piece]:
    """Decode `media` once, from `start` to `end` seconds, and yield `Frame` and `Samples` in time order as they
    become known; of what is live also each `Gap` that its clock tells of, see `Clock`. With `gaps` that holds for what
    is lost of a file, too: else silence and the last picture stand in for it.

    What lies before `since` may be left out, or be wrong; what lies after it is the same to the last bit, on the same
    grids of times, where nothing had to be repaired (see `later`).

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
    shown = 1 / video.fps if video is not None and video.fps else 0.0  # so long a picture of the grid stands
    with media.container() as opened:
        streams = [probe.best(opened, kind) for kind, how in (("video", video), ("audio", audio)) if how is not None]
        begin = Later() if since is None else later(media, opened, streams, start, since - shown)
        tracks: dict[int, Track] = {}
        wanted = None
        if video is not None:
            convert = Converter(video.size, video.background, media.counts)
            pictures = picture_track(media, video.plan(start), convert, start, stop)
            pictures.begin = begin.shown - shown
            tracks[streams[0].index], wanted = pictures, pictures.wanted
        if audio is not None:
            sound = SoundTrack(audio, start, stop, media.counts, media.budget.seconds, since or 0.0)
            sound.sought = begin.seek is not None
            tracks[streams[-1].index] = sound
        demuxer = Demuxer(media, opened, streams, start, wanted, begin, gaps)
        yield from _merge(_pieces(media, demuxer, tracks), list(tracks.values()), media)


def picture_track(
    media: Media, plan: Grid | Times | None, convert: Converter, start: float, end: float = math.inf
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
    broken: dict[int, tuple[float, str]] = {}  # streams in a gap: since when, and why
    for stream, time, duration, frame, reason in source:
        track = tracks[stream]
        n_frames += isinstance(track, PictureTrack)
        if reason:
            broken[stream] = broken.get(stream, (track.end, reason))
            yield from track.restart()
        if not track.done:
            for piece in track.push(time, duration, frame):
                if stream in broken:
                    yield _gap(media, track, *broken.pop(stream), piece.time)
                yield piece
            if stream in broken and track.clock > -math.inf:  # before the pieces of others that it holds back no more
                yield _gap(media, track, *broken.pop(stream), track.clock)
        elif all(track.done for track in tracks.values()):
            break
    for track in tracks.values():
        yield from track.flush()
    if not n_frames and any(isinstance(t, PictureTrack) for t in tracks.values()):
        raise MediaError("empty", f"{media.name}: no frame could be decoded", hint="; ".join(media.warnings))


def _gap(media: Media, track: Track, since: float, reason: str, until: float) -> Gap:
    kind = "video" if isinstance(track, PictureTrack) else "audio"
    return Gap(min(since, until), until, kind, reason, media.name)


def _merge(pieces: Iterator[Piece], tracks: list[Track], media: Media) -> Iterator[Piece]:
    """Hold each piece until no track can give an earlier one; on an error, first give what is held."""
    heap: list[tuple[float, int, Piece]] = []
    order, held = count(), 0
    try:
        for piece in pieces:
            heapq.heappush(heap, (piece.start if isinstance(piece, Gap) else piece.time, next(order), piece))
            held += _nbytes(piece)
            ready = min((track.clock for track in tracks if not track.done), default=math.inf)
            while heap and (heap[0][0] <= ready or held > HELD_BYTES):
                if heap[0][0] > ready:
                    media.counts["streams far apart"] = 1
                held -= _nbytes(heap[0][2])
                yield heapq.heappop(heap)[2]
    except MediaError:
        yield from _drained(heap)
        raise
    yield from _drained(heap)


def _nbytes(piece: Piece) -> int:
    return 0 if isinstance(piece, Gap) else piece.data.nbytes


def _drained(heap: list[tuple[float, int, Piece]]) -> Iterator[Piece]:
    while heap:
        yield heapq.heappop(heap)[2]
