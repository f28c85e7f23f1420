"""Packets to decoded frames, one packet at a time, so that a broken one costs itself and no more."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import av

from mmworld.errors import LimitError, MediaError
from mmworld.media.clock import MAX_GAPS, Clock
from mmworld.media.probe import THREADS, origin

if TYPE_CHECKING:
    from mmworld.media.gate import Media

LOOKAHEAD = 8
"""Packets that are read ahead to learn which pictures nobody will see."""
DELAY = 16
"""Frames that a decoder may hold back: so many after a fault may be the first that it has to do with."""
LOST = {"audio": 0.05, "video": 0.25}
"""Seconds without sound, or after a fault without a picture, from which on that is a gap."""
_STEADY = ("mpegts", "mpeg")
"""Formats whose packets follow one another: what is missing is lost."""
SKIP = 0.5
"""Seconds without a packet in such a format that are a fault."""
LIVE_GAPS = 1e9
"""Seconds of gaps that what is live may have; it sends them no faster than they pass."""
FAULTS_IN_A_ROW = 64
"""After so many read errors without a packet between them the rest of the file is given up."""
_BROADCAST = ("mpegts", "mpeg", "flv", "asf")
_NO_SEEK = ("mp3", "aac", "amr")
"""Formats whose timestamps after a seek are guesses; they are quick to decode from the start."""
_TRUE_PTS = ("mov", "matroska", "mpegts", "mpeg", "flv")
"""Formats that store presentation times; elsewhere they are guessed, and nothing is left out on a guess."""
_DURATION_KNOWN = ("mov", "matroska", "avi", "wav", "flac", "ogg", "flv")
TRUNCATED = 0.05
"""A file that ends this share (and as many seconds) before its declared end is reported as cut."""
_SKIPPING = ("h264", "hevc")
"""Decoders that take `skip_frame` packet by packet; libdav1d applies it some packets late."""
PREROLL = {"mpegts": 10.0, "mpeg": 10.0, "ogg": 2.0}
"""Seconds to seek ahead of the wanted time: in streams without an index a seek may land behind the key frame."""

Wanted = Callable[[float, float], bool]
"""Whether a picture shown from the first time (seconds) until the second is wanted."""


class Decoded(NamedTuple):
    """A frame of stream `stream`: `time` and `duration` in seconds on the media clock (time is None when unknown).

    `broken` says why, if it is the first after a gap that is to be marked: see `Clock.breaks`, and `Demuxer`.
    """

    stream: int
    time: float | None
    duration: float
    frame: Any
    broken: str = ""


class Later(NamedTuple):
    """Where a pass begins that is for what lies later.

    Attributes:
        seek: seconds to which the container is sought; None: its beginning.
        key: where in the file the first packet of pictures lies that is decoded; None: any.
        shown: seconds at which that picture is shown.
    """

    seek: float | None = None
    key: int | None = None
    shown: float = -math.inf


class _Stamp:
    """Presentation time, or decoding time where that proves the more orderly of the two; as FFmpeg's best effort."""

    def __init__(self, doubtful: bool) -> None:
        self._last = [-(1 << 62)] * 2
        self._faults = [int(doubtful), 0]

    def ticks(self, *stamps: int | None) -> int | None:
        for i, stamp in enumerate(stamps):
            self._faults[i] += stamp is None or stamp <= self._last[i]
            self._last[i] = self._last[i] if stamp is None else stamp
        pts, dts = stamps
        return pts if pts is not None and (self._faults[0] <= self._faults[1] or dts is None) else dts


def decoder(stream: Any, max_pixels: int) -> Any:
    """The codec context that decodes `stream`: FFmpeg's own, but for VP9 with alpha, which only libvpx decodes."""
    context = stream.codec_context
    if context.is_open:
        return context
    if context.name == "vp9" and stream.metadata.get("alpha_mode") == "1":
        context = av.CodecContext.create("libvpx-vp9", "r")
        context.extradata = stream.codec_context.extradata
    context.options = {"max_pixels": str(max_pixels)}
    context.thread_count, context.thread_type = THREADS, "AUTO"
    return context


class Demuxer:
    """One pass over the chosen streams of an opened container.

    Args:
        streams: the picture and/or sound stream.
        start: seconds; frames before it may be left out where the container can seek, but never the one shown at
            `start`.
        wanted: lets the decoder leave out pictures that no other picture needs and nobody asked for; exact, never a
            guess.
        later: where to begin instead, for what lies later.
        gaps: a frame is the first after a gap, "missing", where sound is, or where pictures are after a fault.
    """

    def __init__(
        self,
        media: Media,
        opened: Any,
        streams: list[Any],
        start: float,
        wanted: Wanted | None,
        later: Later = Later(),  # noqa: B008 (frozen)
        gaps: bool = False,
    ) -> None:
        self._media, self._opened, self._streams = media, opened, streams
        name = opened.format.name
        most = LIVE_GAPS if math.isinf(media.budget.seconds) else MAX_GAPS
        live = most == LIVE_GAPS and media.duration is None
        jump = 10 if live or name in _BROADCAST else 600
        self.clock = Clock(origin(opened), jump, media.counts, most, now=monotonic if live else None)
        self._breaks: dict[int, tuple[int, str]] = {}  # the ticks of the first packet after a gap, and why
        self.end = 0.0
        exact = all(s.codec_context.name in _SKIPPING for s in streams if s.type == "video")
        self._wanted = wanted if exact and name.startswith(_TRUE_PTS) else None
        self._errors = 0
        self._gaps, self._steady = gaps, name in _STEADY
        self._ends = dict[int, int]()  # of each stream's last packet, in ticks
        self._shown = dict[int, float]()  # until when each stream's last frame is shown
        self._hurt = Counter[int]()  # of each stream, frames that may still be the first after a fault
        self._stamp = _Stamp(doubtful=not name.startswith(_TRUE_PTS))
        self._bases = {stream.index: stream.time_base for stream in streams}
        self._decoders = {stream.index: decoder(stream, media.budget.pixels) for stream in streams}
        self._key = later.key
        if later.seek is not None:
            self._seek(later.seek)
        elif start > 0 and media.seekable and name not in _NO_SEEK:
            self._seek(start - PREROLL[name] if name in PREROLL else max(start - 0.2, 0.0))

    def _seek(self, time: float) -> None:
        try:
            self._opened.seek(self.clock.ticks(time, Fraction(1, av.time_base)))
        except av.error.FFmpegError:
            self._media.counts["not seekable"] += 1

    def __iter__(self) -> Iterator[Decoded]:
        for packet in self._look_ahead():
            yield from self._decode(packet)
        known = self._opened.format.name.startswith(_DURATION_KNOWN)
        if known and self.end < self._declared() * (1 - TRUNCATED) - TRUNCATED:
            self._media.counts["truncated"] = 1

    def _declared(self) -> float:
        """Where the chosen streams should end, in seconds; 0 when unknown."""
        ends = [float(s.duration * s.time_base) for s in self._streams if s.duration]
        every = len(self._streams) == sum(s.type in ("video", "audio") for s in self._opened.streams)
        return max(ends, default=(self._media.duration or 0.0) if every else 0.0)

    def _packets(self) -> Iterator[Any]:
        """Packets on one clock; after a read error reading goes on behind it."""
        faults = 0
        while faults < FAULTS_IN_A_ROW:
            try:
                for packet in self._opened.demux(self._streams):
                    faults = 0
                    if packet.size:
                        self._place(packet)
                    if packet.is_corrupt:
                        self._hit()
                    if not self._early(packet):
                        yield packet
                return
            except IndexError:  # of PyAV, which at the end asks for a stream that appeared on the way
                return
            except (av.error.FFmpegError, OSError):
                faults += 1
                self._fault("corrupt packets")
        self._media.counts["truncated"] = 1
        yield from self._flushes()

    def _flushes(self) -> Iterator[Any]:
        for stream in self._streams:
            packet = av.Packet()
            packet.stream = stream
            yield packet

    def _place(self, packet: Any) -> None:
        if packet.has_sidedata("encryption_info"):
            hint = "mmworld reads clear files only"
            raise MediaError("encrypted", f"{self._media.name}: encrypted {packet.stream.type}", hint=hint)
        index = packet.stream.index
        shift = self.clock.place(index, packet.dts, self._bases[index], packet.duration or 0)
        if self._steady and packet.dts is not None:
            begin = packet.dts + shift
            if (begin - self._ends.get(index, begin)) * self._bases[index] > SKIP:
                self._hit()
            self._ends[index] = begin + (packet.duration or 0)
        if reason := self.clock.breaks.get(index):
            self._breaks[index] = (packet.dts if packet.pts is None else packet.pts) + shift, reason
        if shift:
            packet.dts = None if packet.dts is None else packet.dts + shift
            packet.pts = None if packet.pts is None else packet.pts + shift

    def _early(self, packet: Any) -> bool:
        """Whether a packet of pictures comes before the first that is to be decoded."""
        if self._key is None or packet.stream.type != "video":
            return False
        if packet.pos == self._key or not packet.size:
            self._key = None
        return self._key is not None

    def _look_ahead(self) -> Iterator[Any]:
        """Packets in order, each marked by the decoder's `skip_frame` when its picture will not be seen.

        A picture is unseen when another, shown later, comes before the next wanted time; packets that have not been
        read could only add such pictures, so what is skipped is skipped rightly.
        """
        if self._wanted is None:
            yield from self._packets()
            return
        ahead: deque[Any] = deque()
        for packet in self._packets():
            ahead.append(packet)
            if len(ahead) > LOOKAHEAD:
                yield self._mark(ahead.popleft(), ahead)
        while ahead:
            yield self._mark(ahead.popleft(), ahead)

    def _mark(self, packet: Any, ahead: deque[Any]) -> Any:
        if packet.stream.type != "video":
            return packet
        self._decoders[packet.stream.index].skip_frame = "NONREF" if self._unseen(packet, ahead) else "DEFAULT"
        return packet

    def _unseen(self, packet: Any, ahead: deque[Any]) -> bool:
        later = [p.pts for p in ahead if p.stream.index == packet.stream.index and p.pts is not None]
        if self._errors or self._hurt.total():
            return False
        if packet.pts is None or not (later := [pts for pts in later if pts > packet.pts]):
            return False
        assert self._wanted is not None
        return not self._wanted(
            *(self.clock.seconds(pts, self._bases[packet.stream.index]) for pts in (packet.pts, min(later)))
        )

    def _decode(self, packet: Any) -> Iterator[Decoded]:
        try:
            frames = self._decoders[packet.stream.index].decode(packet if packet.size else None)
        except (av.error.FFmpegError, ValueError):
            self._fault("corrupt packets")
            return
        for frame in frames:
            if frame.is_corrupt:
                self._media.counts["corrupt frames"] += 1
            yield self._timed(packet.stream, frame)

    def _timed(self, stream: Any, frame: Any) -> Decoded:
        base = self._bases[stream.index]
        if stream.type == "audio":
            ticks, duration = frame.pts, frame.samples / max(frame.sample_rate, 1)
        else:
            ticks, duration = self._stamp.ticks(frame.pts, frame.dts), float((frame.duration or 0) * base)
        time = None if ticks is None else self.clock.seconds(ticks, base)
        self.end = max(self.end, (time or 0.0) + duration)
        lost = self._lost(stream, time, duration) and self._gaps
        reason = self._broken(stream.index, ticks) or ("missing" if lost else "")
        if reason == "missing":
            self._media.counts[reason] += 1
        return Decoded(stream.index, time, duration, frame, reason)

    def _lost(self, stream: Any, time: float | None, duration: float) -> bool:
        """Whether something is missing between the last frame and the next."""
        self._hurt[stream.index] -= self._hurt[stream.index] > 0
        if time is None:
            return False
        end = self._shown.get(stream.index, time)
        self._shown[stream.index] = max(end, time + duration)
        faulty = stream.type == "audio" or self._hurt[stream.index] > 0
        return faulty and time > end + LOST[stream.type]

    def _hit(self) -> None:
        """There was a fault: what every stream gives next may be the first after it."""
        self._hurt.update({index: DELAY + 1 - self._hurt[index] for index in self._decoders})

    def _broken(self, index: int, ticks: int | None) -> str:
        """Why a frame is the first after a gap; "" if it is not."""
        first, reason = self._breaks.get(index, (0, ""))
        if not reason or ticks is None or ticks < first:
            return ""
        del self._breaks[index]
        return reason

    def _fault(self, name: str) -> None:
        self._hit()
        self._media.counts[name] += 1
        self._errors += 1
        if self._errors > self._media.budget.errors:
            limit = self._media.budget.errors
            raise LimitError("errors", f"{self._media.name}: more than {limit} broken packets, the rest is not read")
