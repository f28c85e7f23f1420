"""Chunks as a borrowed model's segments need them: films frame by frame, sound cut at a time and joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mmworld.models.message import RATE
from mmworld.stream.policy import TICK
from mmworld.types import Chunk


def frames(chunk: Chunk) -> list[Chunk]:
    """The frames of a film one by one; anything else as it is."""
    n = len(chunk.data) if chunk.modality == "video" else 1
    if n == 1:
        return [replace(chunk, last=False)]
    times = [chunk.start + i * (chunk.end - chunk.start) / n for i in range(n)] + [chunk.end]
    return [Chunk(chunk.data[i : i + 1], times[i], times[i + 1], chunk.modality) for i in range(n)]


def after(chunk: Chunk, time: float) -> Chunk | None:
    """What of a chunk comes from `time` on: of a film the frames that still stand then; None if nothing does."""
    heard = chunk.modality == "audio"
    left = until([chunk], time)[1] if heard else [f for f in frames(chunk) if f.end > time + TICK]
    if left:
        return replace(chunk, data=torch.cat([f.data for f in left]), start=left[0].start)
    now = max(chunk.end, time)
    return replace(chunk, data=chunk.data[:0], start=now, end=now) if chunk.last else None


def until(sound: Sequence[Chunk], time: float) -> tuple[list[Chunk], list[Chunk]]:
    """Sound in order, cut at a time."""
    first: list[Chunk] = []
    rest: list[Chunk] = []
    for chunk in sound:
        n = round((time - chunk.start) * RATE) if time < chunk.end - TICK else len(chunk.data)
        if n >= len(chunk.data):
            first.append(chunk)
        elif n <= 0:
            rest.append(chunk)
        else:
            at = chunk.start + n / RATE
            first.append(replace(chunk, data=chunk.data[:n], end=at, last=False))
            rest.append(replace(chunk, data=chunk.data[n:], start=at))
    return first, rest


def joined(sound: Sequence[Chunk]) -> Iterator[Chunk]:
    """Sound in one chunk, silent for as long as a gap in it, so that what follows keeps its time; nothing of none."""
    data: list[Tensor] = []
    end: float | None = None  # of what came before a gap
    for run in runs(sound):
        if end is not None:
            data.append(run.data.new_zeros(max(0, round((run.start - end) * RATE)), 1))
        data.append(run.data)
        end = run.end
    if data:
        yield Chunk(torch.cat(data), sound[0].start, sound[-1].end, "audio")


def runs(sound: Sequence[Chunk]) -> Iterator[Chunk]:
    """Sound from gap to gap, each stretch in one chunk."""
    held: list[Chunk] = []
    for i, chunk in enumerate(sound):
        held.append(chunk)
        if chunk.last or i == len(sound) - 1:
            yield replace(chunk, data=torch.cat([c.data for c in held]), start=held[0].start)
            held = []


def leaves(chunks: Sequence[Chunk], name: str) -> dict[str, Any]:
    """Chunks by name, to be saved."""
    rows = [[c.modality, c.start, c.end, c.last] for c in chunks]
    return {name: rows, **{f"{name}.{i}": c.data for i, c in enumerate(chunks)}}


def restored(values: Mapping[str, Any], name: str) -> list[Chunk]:
    """The chunks that `leaves` gave."""
    rows = enumerate(values[name])
    return [Chunk(values[f"{name}.{i}"], start, end, modality, last) for i, (modality, start, end, last) in rows]
