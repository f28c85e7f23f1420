"""Texts of any lengths as one row of ids."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor


def firsts(lengths: Sequence[int]) -> Tensor:
    """Where in the row each of the packed texts begins, int64 [B]."""
    n = torch.tensor(lengths, dtype=torch.long)
    return n.cumsum(0) - n


def lasts(lengths: Sequence[int]) -> Tensor:
    """Where each of them ends."""
    return torch.tensor(lengths, dtype=torch.long).cumsum(0) - 1


def pack(texts: Sequence[Sequence[int]], device: torch.device | None = None) -> tuple[Tensor, tuple[int, ...]]:
    """The ids of each text to all of them one after the other [1, N], and how many are whose.

    Raises:
        ValueError: a text has none.
    """
    lengths = tuple(map(len, texts))
    if not all(lengths):
        raise ValueError("a text without ids")
    return torch.tensor([list(chain.from_iterable(texts))], dtype=torch.long, device=device), lengths
