"""A row of tokens in memory that grows at its end."""

from __future__ import annotations

import copy

import torch
from torch import Tensor


class Row:
    """Tokens [B, T, ...] in memory with room at the end, so that appending a few seldom copies what is held.

    A fork shares the memory, and from then on neither side writes into it. With gradients nothing is written in place.
    """

    def __init__(self, x: Tensor) -> None:
        self._hold(x)

    def _hold(self, x: Tensor, length: int | None = None, *, mine: bool = False) -> None:
        self._memory, self._start, self._stop, self._mine = x, 0, x.shape[1] if length is None else length, mine

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def x(self) -> Tensor:
        """All tokens held [B, T, ...]; its memory is written to later, except when gradients are on."""
        return self._memory[:, self._start : self._stop]

    @property
    def nbytes(self) -> int:
        return self._memory.nbytes

    def fork(self) -> Row:
        self._mine = False
        return copy.copy(self)

    def append(self, x: Tensor) -> None:
        """Add tokens [B, n, ...] at the end."""
        n = x.shape[1]
        if torch.is_grad_enabled():
            return self._hold(torch.cat((self.x, x), dim=1))
        if not self._writable() or self._stop + n > self._memory.shape[1]:
            length = len(self)
            memory = x.new_empty(x.shape[0], length + n + max(16, (length + n) // 2), *x.shape[2:])
            memory[:, :length] = self.x
            self._hold(memory, length, mine=True)
        self._memory[:, self._stop : self._stop + n] = x
        self._stop += n

    def drop(self, start: int, stop: int) -> None:
        """Take out tokens [start, stop)."""
        if start and not self._writable():
            return self._hold(torch.cat((self.x[:, :start], self.x[:, stop:]), dim=1))
        head = self.x[:, :start].clone() if start else None
        self._start += stop - start
        if head is not None:
            self._memory[:, self._start : self._start + start] = head
        if 4 * len(self) < self._memory.shape[1]:
            self._hold(self.x.clone())

    def _writable(self) -> bool:
        same_mode = self._memory.is_inference() == torch.is_inference_mode_enabled()
        return self._mine and same_mode and not torch.is_grad_enabled()
