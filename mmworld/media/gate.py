"""The media gate: the one door through which every file, address and byte stream enters.

Source -> sniff -> probe -> budget; what comes out is a `Media` that the readers of this package (and those of clouds
and series) may decode.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import av

from mmworld.errors import LimitError, MediaError, SourceError
from mmworld.media import probe
from mmworld.media.boxes import boxes, index_first
from mmworld.media.budget import SNIFF_BYTES, Budget
from mmworld.media.probe import AudioInfo, VideoInfo
from mmworld.media.sniff import ANIMATED_WEBP, Format, Kind, sniff
from mmworld.media.source import Opened, Replay, open_source
from mmworld.types import Source

PIPE_SNIFF_BYTES = 4096
"""A live source is not kept waiting until 64 KiB have arrived."""


@dataclass(eq=False)
class Media:
    """An input that passed the gate.

    Attributes:
        name: for messages and outputs.
        kind: "image", "video", "audio", "pointcloud" or "sensor". A video with sound is "video".
        format: what the bytes are.
        path: of a regular file, or None.
        seekable: it can be read more than once, and from any time.
        video, audio: what the header says of the streams that will be read, or None.
        duration: seconds that the header declares, or None; never relied on.
        counts: faults met so far, by name ("discontinuity", "corrupt packets", …).
    """

    name: str
    kind: Kind
    format: Format
    path: Path | None
    seekable: bool
    budget: Budget
    video: VideoInfo | None = None
    audio: AudioInfo | None = None
    duration: float | None = None
    counts: Counter[str] = field(default_factory=Counter)
    _opened: Opened | None = field(default=None, repr=False)
    _options: dict[str, str] | None = field(default=None, repr=False)
    _live: tuple[Any, ExitStack] | None = field(default=None, repr=False)

    @property
    def has_video(self) -> bool:
        return self.video is not None

    @property
    def has_audio(self) -> bool:
        return self.audio is not None

    @property
    def warnings(self) -> list[str]:
        """What was salvaged or guessed, in the order in which it was met; grows while the media is read."""
        return [f"{fault}: {n}" if n > 1 or fault.startswith("corrupt") else fault for fault, n in self.counts.items()]

    def open(self) -> IO[bytes]:
        """The bytes from the start, as a new file object; of a stream that cannot seek, once only."""
        if self._opened is None:
            raise SourceError("stream", f"{self.name}: can be read only once")
        opened = self._opened
        if not self.seekable:
            self._opened = None
        return opened.reopen()

    def read_bytes(self) -> bytes:
        """All bytes; LimitError beyond `budget.bytes`."""
        with self.open() as file:
            data = file.read(self.budget.bytes + 1)
        if len(data) > self.budget.bytes:
            raise LimitError("bytes", f"{self.name}: larger than the limit of {self.budget.bytes} bytes")
        return data

    @contextmanager
    def container(self) -> Iterator[Any]:
        """An av container at its start, with the limits set; of a stream that cannot seek, once only."""
        if self._live is not None:
            (opened, scope), self._live = self._live, None
            with scope:
                yield opened
            return
        with self.open() as file, probe.container(file, self.format.reader, self.budget, self._options) as opened:
            yield opened


def open_media(
    source: Source | Media,
    *,
    allow_url: bool = False,
    root: Path | None = None,
    budget: Budget | None = None,
    input_format: str | None = None,
) -> Media:
    """Open a source, find out what it is, and check it against the budget. Nothing is decoded yet.

    Args:
        source: a path, bytes, a binary file object, a `data:` address, or an `https:` one where `allow_url`; what was
            opened before is returned as it is.
        root: paths outside this folder are refused.
        input_format: raw PCM without a header, as "s16le:16000:1": sample format, rate, channels.

    Raises:
        SourceError: the source is missing, refused, or not a regular file.
        LimitError: it asks for more than the budget.
        MediaError: "empty", "format", "mismatch", "codec", "encrypted", "truncated" (no index), "faststart".
    """
    if isinstance(source, Media):
        return source
    budget = budget or Budget()
    opened = open_source(source, allow_url=allow_url, root=root, budget=budget)
    if input_format is not None:
        return _raw(opened, input_format, budget)
    head = _head(opened)
    found = sniff(head, opened.name)
    _check_head(head, opened.name, budget)
    if found.reader.startswith("mov"):
        opened = _with_index(opened, head, budget)
    media = Media(opened.name, found.kind, found, opened.path, opened.seekable, budget, _opened=opened)
    if found is ANIMATED_WEBP:
        media.video = VideoInfo(0, "webp", *_canvas(head), None, "rgba")
    return _probe(media) if found.kind in ("video", "audio") and found is not ANIMATED_WEBP else media


def _head(opened: Opened) -> bytes:
    file = opened.reopen()
    if isinstance(file, Replay):
        head = file.peek(1)
        return head if head[:1] == b"{" else file.peek(PIPE_SNIFF_BYTES)  # a sensor may send a line a second
    with file:
        return file.read(SNIFF_BYTES)


def _canvas(head: bytes) -> tuple[int, int]:
    """Width and height that a GIF or an animated WebP declares; (0, 0) of anything else."""
    if head.startswith(b"GIF8"):
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head[8:16] == b"WEBPVP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    return 0, 0


def _check_head(head: bytes, name: str, budget: Budget) -> None:
    """What the first bytes give away before a parser looks at them: a canvas, or ID3 tags, beyond the budget."""
    width, height = _canvas(head)
    if width * height > budget.pixels:
        raise LimitError("pixels", f"{name}: {width}x{height}, the limit is {budget.pixels} pixels")
    size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
    if head.startswith(b"ID3") and size > budget.header_bytes:
        raise LimitError("metadata", f"{name}: {size} bytes of tags, the limit is {budget.header_bytes}")


def _with_index(opened: Opened, head: bytes, budget: Budget) -> Opened:
    """An MP4 whose index can be reached: from a pipe with the index at its end, a temporary copy."""
    if not opened.seekable:
        return opened if index_first(head) else _spool(opened, budget)
    with opened.reopen() as file:
        index = [box for box in boxes(file) if box.type == b"moov"]
    if not index:
        hint = "the recording was cut before it was finished"
        raise MediaError("truncated", f"{opened.name}: incomplete mp4, index missing", hint=hint)
    if (size := index[0].end - index[0].start) > budget.header_bytes:
        raise LimitError("header", f"{opened.name}: index of {size} bytes, the limit is {budget.header_bytes}")
    return opened


def _spool(opened: Opened, budget: Budget) -> Opened:
    copy, source, size = tempfile.TemporaryFile(), opened.reopen(), 0  # noqa: SIM115 - lives as long as the media
    while data := source.read(1 << 16):
        size += len(data)
        if size > budget.spool_bytes:
            copy.close()
            message = f"{opened.name}: mp4 with its index at the end, through a pipe, beyond {budget.spool_bytes} bytes"
            raise LimitError("faststart", message, hint="pass the file's name, or use ffmpeg -movflags +faststart")
        copy.write(data)
    spooled = open_source(copy, allow_url=False, root=None, budget=budget)
    return _with_index(Opened(opened.name, spooled.reopen, seekable=True), b"", budget)


def _probe(media: Media) -> Media:
    """Fill in what the container declares. A stream that cannot seek stays open in the media: it is read on from
    there.
    """
    with ExitStack() as scope:
        try:
            opened = scope.enter_context(media.container())
        except (av.error.FFmpegError, ValueError, OSError) as e:
            code = "empty" if isinstance(e, EOFError) else "format"
            raise MediaError(code, f"{media.name}: not readable as {media.format.words}: {_reason(e)}") from None
        media.video, media.audio = probe.check(opened, media.name, media.budget)
        media.duration = opened.duration / av.time_base if opened.duration and opened.duration > 0 else None
        if not media.seekable:
            media._live = opened, scope.pop_all()
    media.kind = "video" if media.has_video else "audio"
    return media


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or type(error).__name__
    return str(text).lower()


_RAW = "u8 s8 s16le s16be s24le s24be s32le s32be f32le f32be f64le f64be alaw mulaw"


def _raw(opened: Opened, spec: str, budget: Budget) -> Media:
    name, rate, channels = [*spec.split(":"), "", ""][:3]
    if name not in _RAW.split() or not rate.isdecimal() or not channels.isdecimal() or spec.count(":") != 2:
        hint = f"format:rate:channels, formats: {_RAW}"
        raise MediaError("format", f"raw format {spec!r}", hint=hint)
    probe.check_sound(int(rate), int(channels), opened.name, budget)
    options = {"sample_rate": rate, "ch_layout": "mono" if channels == "1" else f"{int(channels)} channels"}
    media = Media(opened.name, "audio", Format("raw PCM", "audio", name), opened.path, opened.seekable, budget)
    media._opened, media._options = opened, options
    return _probe(media)
