"""How the streams of many items become one packed row: blocks by (end, modality), then text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmworld.types import Tokens

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """A run of blocks that lie one after the other in the pool of tokens.

    Attributes:
        item: int64 [blocks], the item each belongs to.
        tick: int64 [blocks], when each ends (see `ticks`).
        rank: order among blocks that end together.
        sizes: int64 [blocks], tokens of each.
    """

    item: Ints
    tick: Ints
    rank: int
    sizes: Ints


TEXT = 1 << 62
"""Tick of text: after all media."""


def ticks(end: NDArray[np.float64]) -> Ints:
    """Seconds in whole microseconds: blocks that end together compare equal, whatever sum their ends came from."""
    return np.rint(end * 1e6).astype(np.int64)


def tick(end: float) -> float:
    """The same of one time; infinite stays so."""
    return np.rint(end * 1e6).item()


def media(tokens: Sequence[Tokens], items: Sequence[int], rank: int) -> Pool:
    """The blocks of streams of one modality; stream i belongs to items[i]."""
    sizes = [np.asarray(t.blocks, dtype=np.int64) for t in tokens]
    sizes = [s[s > 0] for s in sizes]
    ends = [t.end.cpu().numpy()[np.cumsum(s) - 1] for t, s in zip(tokens, sizes, strict=True)]
    item = np.repeat(np.asarray(items, dtype=np.int64), [len(s) for s in sizes])
    return Pool(item, ticks(np.concatenate(ends)), rank, np.concatenate(sizes))


def text(lengths: Sequence[int]) -> Pool:
    """One block for each text token; item i has lengths[i] of them."""
    item = np.repeat(np.arange(len(lengths)), lengths)
    return Pool(item, np.full(len(item), TEXT, dtype=np.int64), 0, np.ones(len(item), dtype=np.int64))


def interleave(pools: Sequence[Pool], n_items: int) -> tuple[Ints, Ints, list[tuple[int, ...]]]:
    """Order the blocks of all pools by (item, end, rank).

    Returns:
        For each token of the row its place in the concatenated pools, for each token whether it is text (0 or 1),
        and for each item the sizes of its blocks in order.
    """
    item, tick, sizes = (np.concatenate([getattr(p, f) for p in pools]) for f in ("item", "tick", "sizes"))
    rank = np.repeat([p.rank for p in pools], [len(p.sizes) for p in pools])
    order = np.lexsort((rank, tick, item))  # stable: blocks alike in all three stay as they came
    first = np.cumsum(sizes) - sizes
    size = sizes[order]
    row = np.repeat(first[order] - (np.cumsum(size) - size), size) + np.arange(size.sum())
    is_text = np.repeat(tick[order] == TEXT, size)
    cuts = np.searchsorted(item[order], np.arange(1, n_items))
    return row, is_text, [tuple(part.tolist()) for part in np.split(size, cuts)]
