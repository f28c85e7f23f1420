"""Whisper's frames of a sound that is read as it comes, window by window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from mmworld.modalities.audio.features import SILENCE, by_pieces, levelled, log10_mel

FRAME, EDGE = 160, 200
"""Samples of a frame, and those of its neighbours on either side that it looks at."""


class Windows:
    """Log-mel frames of a sound, each from the same samples as if the whole were there, in windows each of which is
    levelled by itself, as in training. What is held is one window.

    Args:
        pieces: samples [S] at 16 kHz, one after the other.
        n_mels: mel bands.
        length: frames of a window.
    """

    def __init__(self, pieces: Iterable[Tensor], n_mels: int = 80, length: int = 3000) -> None:
        self.length = length
        self._samples = self._first = 0
        self._held = torch.zeros(0, n_mels)
        self._coming = by_pieces(partial(log10_mel, n_mels=n_mels), self._edged(iter(pieces)))

    def window(self, at: int) -> tuple[Tensor, int]:
        """Frames [length, n_mels] from frame `at` on, which is not before the last window's, and how many of them are
        of the sound; the rest is silence.
        """
        while self._first + len(self._held) < at + self.length and (more := next(self._coming, None)) is not None:
            self._held = torch.cat((self._held, more))
            self._drop(at)
        self._drop(at)
        found = self._held[: self.length]
        silent = F.pad(found, (0, 0, 0, self.length - len(found)), value=math.log10(SILENCE))
        return levelled(silent), max(0, min(self.length, self._samples // FRAME - at))

    def _drop(self, at: int) -> None:
        gone = min(at - self._first, len(self._held))
        if gone > 0:
            self._held, self._first = self._held[gone:].clone(), self._first + gone

    def _edged(self, pieces: Iterator[Tensor]) -> Iterator[Tensor]:
        """The sound with its beginning mirrored before it, and silence after it."""
        head = torch.zeros(0)
        while len(head) <= EDGE and (piece := next(pieces, None)) is not None:
            self._samples += len(piece)
            head = torch.cat((head, piece))
        head = F.pad(head, (0, max(0, EDGE + 1 - len(head))))
        yield torch.cat((head[1 : EDGE + 1].flip(0), head))
        for piece in pieces:
            self._samples += len(piece)
            yield piece
        yield torch.zeros(2 * EDGE)
