"""What a source shows to a borrowed model: frames as they are, sound at 16 kHz, a cloud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mmworld.errors import MediaError
from mmworld.media.audio import samples
from mmworld.media.gate import Media, open_media
from mmworld.media.pictures import Frame, Pictures, cover
from mmworld.media.read import read
from mmworld.media.sound import Sound
from mmworld.media.video import frames, frames_at
from mmworld.models.message import RATE
from mmworld.models.opening import HOLDS, Opened, of_container
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
    if media.kind in ("video", "audio"):
        return of_container(media, names, start, lambda since: _one_pass(media, names, fps, start, end, since))
    return Opened(media.name, names, iter([_still(media)]), live=not media.seekable)


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
    """Frames uint8 [3, H, W] as the model takes them: one film, or one picture after another. A camera that was lost
    may come back in another size; all have that of the first.
    """
    if not frames:
        return []
    alike = [_covering(f, frames[0].shape[1:]) for f in frames]
    if "video" in takes.senses:
        return [Chunk(torch.stack(alike), start, end, "video")]
    return [Chunk(f[None], start, end, "image") for f in alike]


def _covering(frame: Tensor, size: Sequence[int]) -> Tensor:
    """The middle of a frame that was scaled to cover (height, width), as the gate does within one connection."""
    if frame.shape[1:] == size:
        return frame
    h, w = size
    height, width = cover((frame.shape[1], frame.shape[2]), (h, w))
    scaled = F.interpolate(frame[None].float(), (height, width), mode="bilinear", antialias=True)[0]
    top, left = (height - h) // 2, (width - w) // 2
    return scaled[:, top : top + h, left : left + w].round().to(torch.uint8)


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
    media: Media, names: tuple[str, ...], fps: float, start: float, end: float | None, since: float | None
) -> Iterator[Chunk | Gap]:
    pictures = Pictures(fps) if "video" in names else None
    sound = Sound(RATE, mono=True) if "audio" in names else None
    for piece in read(media, video=pictures, audio=sound, start=start, end=end, since=since, gaps=True):
        if isinstance(piece, Frame):
            yield Chunk(piece.data[None], piece.time, piece.time + 1 / fps, "video")
        elif isinstance(piece, Gap):
            yield piece
        else:
            yield Chunk(piece.data, piece.time, piece.time + len(piece.data) / RATE, "audio")
