"""A sound of any length in stretches that can be heard at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

BLOCK = 1600
"""Samples, a tenth of a second, of which the quietest is where a sound is cut."""


def cut(pieces: Iterable[Tensor], most: int) -> Iterator[Tensor]:
    """Samples [S] in stretches of at most `most`, each cut in the middle of the quietest tenth of a second of its last
    third, so that words stay whole; what is held is one stretch and one piece. The stretches tile the sound.
    """
    held: list[Tensor] = []
    n = 0
    for piece in pieces:
        held, n = [*held, piece], n + len(piece)
        if n > most:
            x = torch.cat(held)
            while len(x) > most:
                at = _quietest(x[:most])
                yield x[:at]
                x = x[at:]
            held, n = [x.clone()], len(x)
    if n:
        yield torch.cat(held)


def _quietest(x: Tensor) -> int:
    first = 2 * len(x) // 3
    blocks = x[first:].unfold(0, BLOCK, BLOCK) if len(x) - first >= BLOCK else x[first:][None]
    return first + int(blocks.square().mean(1).argmin()) * BLOCK + blocks.shape[1] // 2
