"""Where in a file decoding may begin, so that what follows a time is what it is when all before it was decoded, too.

Pictures of MP4 and Matroska begin with a key frame: its decoder is seen to show that very picture first. PCM and FLAC
by themselves hold every sample for itself. All other sound has a decoder that remembers (AAC's noise, MP3's bit
reservoir, Opus's energies), or times that do not count samples, and is decoded from its beginning; the pictures beside
it are not. Other containers guess their times after a seek, and are decoded from their beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av

from mmworld.media.clock import Clock
from mmworld.media.demux import Later, decoder
from mmworld.media.probe import origin
from mmworld.media.sound import WARM

if TYPE_CHECKING:
    from mmworld.media.gate import Media

_PICTURES = ("mov", "matroska"), ("h264", "hevc", "av1", "vp8", "vp9", "mjpeg", "prores")
_SOUND = ("wav", "w64", "aiff", "flac"), ("pcm_", "flac")
"""Containers and codecs in which nothing after a key frame, or a sample, depends on what came before it."""
_BACK = (0.2, 5.0, 30.0)
"""Seconds before the time at which a key frame is looked for, one after the other."""
HARMLESS = frozenset(("interlaced frames", "hdr without tone mapping", "streams far apart"))
"""What is counted and repairs nothing."""


def later(media: Media, opened: Any, streams: Sequence[Any], start: float, since: float) -> Later:
    """Where a pass over `streams`, from `start`, may begin for what lies from `since` on."""
    pictures = [s for s in streams if s.type == "video"]
    if not media.seekable or not _holds(opened, pictures or streams, *(_PICTURES if pictures else _SOUND)):
        return Later()
    if not pictures:
        return _key(media, streams[0].index, start, since - WARM)
    found = _key(media, pictures[0].index, start, since)
    return found if len(streams) == 1 else found._replace(seek=None)


def repaired(media: Media) -> bool:
    """Whether something had to be repaired as `media` was read: then what follows may hang on all that came before."""
    return bool(media.counts.keys() - HARMLESS)


def _holds(opened: Any, streams: Sequence[Any], containers: tuple[str, ...], codecs: tuple[str, ...]) -> bool:
    known = all(s.codec_context.codec.canonical_name.startswith(codecs) for s in streams)
    return known and opened.format.name.startswith(containers)


def _key(media: Media, index: int, start: float, since: float) -> Later:
    """The key frame shown by `since` to which a seek leads, if its decoder shows it first."""
    with media.container() as opened:
        stream = opened.streams[index]
        clock = Clock(origin(opened), 0.0, media.counts)
        for time in (since - back for back in _BACK if since - back > start):
            try:
                opened.seek(clock.ticks(time, Fraction(1, av.time_base)))
                packet, frame = _first(opened, stream, decoder(stream, media.budget.pixels))
            except (av.error.FFmpegError, EOFError, ValueError):
                break
            known = packet.is_keyframe and None not in (packet.pts, packet.pos) and frame.pts == packet.pts
            if known and (shown := clock.seconds(packet.pts, stream.time_base)) <= since:
                return Later(time, packet.pos, shown)
    return Later()


def _first(opened: Any, stream: Any, context: Any) -> tuple[Any, Any]:
    """The next packet of a stream, and the first frame that its decoder shows."""
    first = None
    for packet in opened.demux(stream):
        first = packet if first is None else first
        for frame in context.decode(packet if packet.size else None):
            return first, frame
    raise EOFError
