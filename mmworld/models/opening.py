"""From a source to the chunks of every modality that it holds and the model takes, on one clock."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from mmworld.errors import ConfigError, MediaError
from mmworld.media.gate import Media, open_media
from mmworld.media.later import repaired
from mmworld.media.pictures import Frame, Pictures
from mmworld.media.read import read, require
from mmworld.media.sound import Sound
from mmworld.models.world import World
from mmworld.types import Chunk, Gap, Source

HOLDS = {
    "image": ("image",),
    "video": ("audio", "video"),
    "audio": ("audio",),
    "pointcloud": ("points",),
    "sensor": ("sensor",),
}
"""The modalities that a kind of media can have."""
LAG = 1.0
"""Seconds by which one stream of a file may be behind the other before it no longer waits for it."""


@dataclass(frozen=True)
class Opened:
    """A source as chunks; made by hand, it lets any chunks be captioned.

    Attributes:
        modalities: of the streams; each ends with a chunk marked last.
        chunks: and gaps, where something is lost in between.
        live: whether it comes at its own pace (a pipe, a camera), rather than as fast as it is read.
        since: chunks that from a time on are those of `chunks`, with little made of what lies before it.
        media: what they are read from.
    """

    name: str
    modalities: tuple[str, ...]
    chunks: Iterator[Chunk | Gap]
    live: bool = False
    since: Callable[[float], Iterator[Chunk]] | None = None
    media: Media | None = None

    @property
    def repaired(self) -> bool:
        """Whether something that was read had to be repaired, so that what follows may hang on all before it."""
        return self.media is not None and repaired(self.media)


def open_streams(
    world: World,
    source: Source | Media | Opened,
    *,
    start: float = 0.0,
    end: float | None = None,
    fps: float | None = None,
    modalities: Sequence[str] | None = None,
) -> Opened:
    """Every stream of `source` that `world` has an adapter for, from `start` to `end` seconds.

    Args:
        source: a folder is one cloud after another.
        fps: frames looked at a second; the model then sees each for as long as it stands. None: as the model's rate.
        modalities: only these.

    Raises:
        MediaError: the gate refuses the source, or it holds nothing that the model takes, or lacks one of `modalities`.
    """
    if isinstance(source, Opened):
        return source
    if isinstance(source, str | os.PathLike) and os.path.isdir(source):
        return open_modality(world, "points", source, start=start, end=end)
    media = open_media(source)
    names = _names(world, media, modalities)
    if media.kind in ("video", "audio"):
        return of_container(media, names, start, lambda since: _one_pass(world, media, names, start, end, fps, since))
    return Opened(media.name, names, _adapter_open(world, names[0], media, start, end), live=not media.seekable)


def of_container(
    media: Media, names: tuple[str, ...], start: float, chunks: Callable[[float | None], Iterator[Chunk | Gap]]
) -> Opened:
    """The streams of one container; `chunks` gives those from a time on, or all."""
    return Opened(
        media.name,
        names,
        marked(chunks(None), names, start),
        live=not media.seekable,
        since=(lambda time: marked(chunks(time), names, max(start, time))) if media.seekable else None,
        media=media,
    )


def open_modality(
    world: World,
    name: str,
    source: Source | Media,
    *,
    start: float = 0.0,
    end: float | None = None,
    fps: float | None = None,
) -> Opened:
    """The one stream of the modality `name` in `source`. Raises as `open_streams`, and ConfigError for the name."""
    if name not in world.adapters:
        raise ConfigError(f"this model has no adapter for {name}", hint=f"has {list(world.adapters)}")
    if name in ("video", "audio"):
        return open_streams(world, source, start=start, end=end, fps=fps, modalities=(name,))
    return Opened(label(source), (name,), _adapter_open(world, name, source, start, end))


def label(source: Source | Media | Opened) -> str:
    """What to call a source in messages."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", "input"))


def _names(world: World, media: Media, wanted: Sequence[str] | None) -> tuple[str, ...]:
    if wanted is not None and media.kind in ("video", "audio"):
        require(media, video="video" in wanted, audio="audio" in wanted)
    there = {"video": media.has_video, "audio": media.has_audio}
    names = [n for n in HOLDS[media.kind] if there.get(n, True) and (wanted is None or n in wanted)]
    known = tuple(n for n in names if n in world.adapters)
    if not known:
        takes = ", ".join(wanted if wanted is not None else world.adapters)
        raise MediaError("modality", f"{media.name}: is {media.format.words}, wanted is {takes}")
    return known


def _adapter_open(world: World, name: str, source: Any, start: float, end: float | None) -> Iterator[Chunk]:
    adapter: Any = world.adapters[name]
    span = {"start": start, "end": end} if "start" in inspect.signature(adapter.open).parameters else {}
    return adapter.open(source, **span)


def marked(chunks: Iterable[Chunk | Gap], names: Sequence[str], start: float) -> Iterator[Any]:
    """The chunks of one container, in time order. A stream that lags says so with empty ones; each has a last one. Gaps
    begin where what came before them ends.
    """
    clocks, empty = dict.fromkeys(names, start), dict.fromkeys(names, torch.zeros(0))
    for chunk in chunks:
        if isinstance(chunk, Gap):
            since = max(chunk.start, clocks[chunk.modality])
            clocks[chunk.modality] = max(chunk.end, since)
            yield replace(chunk, start=since, end=clocks[chunk.modality])
            continue
        yield chunk
        clocks[chunk.modality], empty[chunk.modality] = chunk.end, chunk.data[:0]
        for name, clock in clocks.items():
            if clock < chunk.start - 2 * LAG:
                clocks[name] = chunk.start - LAG
                yield Chunk(empty[name], clocks[name], clocks[name], name)
    for name, clock in clocks.items():
        yield Chunk(empty[name], clock, clock, name, last=True)


def _one_pass(
    world: World,
    media: Media,
    names: tuple[str, ...],
    start: float,
    end: float | None,
    fps: float | None,
    since: float | None,
) -> Iterator[Chunk | Gap]:
    """Pictures and sound of one container."""
    video: Any = world.adapters["video"] if "video" in names else None
    audio: Any = world.adapters["audio"] if "audio" in names else None
    seen = min(fps or video.rate, video.rate) if video else 0.0
    pictures = Pictures(seen, video.config.size) if video else None
    sound = Sound(int(audio.rate), mono=True) if audio else None
    for piece in read(media, video=pictures, audio=sound, start=start, end=end, since=since, gaps=True):
        if isinstance(piece, Frame):
            yield _shown(piece, seen, video.rate, start)
        elif isinstance(piece, Gap):
            yield piece
        else:
            yield Chunk(piece.data, piece.time, piece.time + len(piece.data) / audio.rate, "audio")


def _shown(frame: Frame, fps: float, rate: float, start: float) -> Chunk:
    """The rows, at `rate`, through which a frame stands that was looked at with others at `fps`."""
    first, after = (math.ceil((t - start) * rate - 1e-3) for t in (frame.time, frame.time + 1 / fps))
    data = frame.data.expand(after - first, *frame.data.shape)
    return Chunk(data, start + first / rate, start + after / rate, "video")
