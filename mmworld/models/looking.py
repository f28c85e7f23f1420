"""What a source shows to a borrowed model: frames as they are, sound at 16 kHz, a cloud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mmworld.errors import MediaError
from mmworld.media.audio import samples
from mmworld.media.gate import Media, open_media
from mmworld.media.pictures import Frame, Hole, Pictures
from mmworld.media.read import read
from mmworld.media.sound import Sound
from mmworld.media.video import frames, frames_at
from mmworld.models.message import RATE
from mmworld.models.opening import HOLDS, Opened, marked
from mmworld.types import Chunk, Gap, Source, Takes


def look(
    source: Source | Media,
    takes: Takes,
    *,
    fps: float,
    start: float = 0.0,
    end: float | None = None,
    modalities: Sequence[str] | None = None,
) -> Opened:
    """What of `source` the model takes, as it is read: a frame a chunk, that stands until the next; the
    last chunk of each stream is marked.

    Raises:
        MediaError: the gate refuses the source, or it holds nothing that the model takes.
    """
    media = open_media(source)
    names = held(media, takes, modalities)
    runs = media.kind in ("video", "audio")
    chunks = marked(_one_pass(media, names, fps, start, end), names, start) if runs else iter([_still(media)])
    return Opened(media.name, names, chunks, live=not media.seekable)


def parts(
    source: Source | Media,
    takes: Takes,
    *,
    start: float = 0.0,
    end: float | None = None,
    modalities: Sequence[str] | None = None,
) -> tuple[Chunk, ...]:
    """The whole of `source` as a message shows it: of a film frames evenly spread over its time, or all at the model's
    rate; of a longer one or a longer sound than the model takes the first `takes.seconds`.

    Raises:
        MediaError: the gate refuses the source, or it holds nothing that the model takes.
    """
    media = open_media(source)
    names = held(media, takes, modalities)
    if media.kind not in ("video", "audio"):
        return (_still(media),)
    last = min(filter(None, (end, media.duration, start + takes.seconds)))
    shown: list[Chunk] = []
    if "video" in names:
        shown += film(takes, _frames(media, takes, start, last), start, last)
    if "audio" in names:
        heard = [piece for _, piece in samples(media, rate=takes.rate, start=start, end=last, mono=True)]
        if heard:
            sound = torch.cat(heard)
            shown.append(Chunk(sound, start, start + len(sound) / takes.rate, "audio"))
    return tuple(shown)


def film(takes: Takes, frames: Sequence[Tensor], start: float, end: float) -> list[Chunk]:
    """Frames uint8 [3, H, W] as the model takes them: one film, or one picture after another."""
    if not frames:
        return []
    if "video" in takes.senses:
        return [Chunk(torch.stack(list(frames)), start, end, "video")]
    return [Chunk(f[None], start, end, "image") for f in frames]


def held(media: Media, takes: Takes, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
    """The modalities in `media` that can be shown; MediaError, naming those, if there are none."""
    senses = {*takes.senses, *(("video",) if "image" in takes.senses else ())}
    there = {"video": media.has_video, "audio": media.has_audio}
    names = [n for n in HOLDS[media.kind] if there.get(n, True) and n in senses and (wanted is None or n in wanted)]
    if media.kind == "image" and "image" not in takes.senses:
        names = []
    if not names:
        raise MediaError("modality", f"{media.name}: is {media.format.words}, wanted is {', '.join(takes.senses)}")
    return tuple(names)


def _frames(media: Media, takes: Takes, start: float, end: float) -> list[Tensor]:
    if takes.fps is not None:
        return [f.data for f in frames(media, fps=takes.fps, size=takes.size, start=start, end=end)]
    step = (end - start) / takes.frames
    return [f.data for f in frames_at(media, [start + (i + 0.5) * step for i in range(takes.frames)])]


def _still(media: Media) -> Chunk:
    if media.kind == "image":
        from mmworld.media.image import read as picture

        return Chunk(picture(media)[None], 0.0, 0.0, "image", last=True)
    from mmworld.registry import modalities

    clouds: Iterator[Chunk] = modalities.get("points")().open(media)
    return next(clouds)


def _one_pass(
    media: Media, names: tuple[str, ...], fps: float, start: float, end: float | None
) -> Iterator[Chunk | Gap]:
    pictures = Pictures(fps, holes=True) if "video" in names else None
    sound = Sound(RATE, mono=True, holes=True) if "audio" in names else None
    for piece in read(media, video=pictures, audio=sound, start=start, end=end):
        if isinstance(piece, Hole):
            yield Gap(piece.time, piece.end, piece.stream, "missing", media.name)
        elif isinstance(piece, Frame):
            yield Chunk(piece.data[None], piece.time, piece.time + 1 / fps, "video")
        else:
            yield Chunk(piece.data, piece.time, piece.time + len(piece.data) / RATE, "audio")
