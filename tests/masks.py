"""Masks and tensors that hypothesis draws, and the definition of visibility as two loops."""

from __future__ import annotations

from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from mmworld.attention import Mask


class Case(NamedTuple):
    mask: Mask
    n_queries: int
    n_keys: int


@st.composite
def segments(draw: st.DrawFn, longest: int = 9) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Query tokens of each segment, some empty, and key tokens where they differ."""
    lengths = tuple(draw(st.lists(st.integers(0, longest), min_size=1, max_size=4)))
    held = draw(st.none() | st.just(0) | st.integers(1, longest))
    if held is None:
        return lengths, None
    return lengths, tuple(n + draw(st.integers(0, held)) for n in lengths)


@st.composite
def tiling(draw: st.DrawFn, n: int, largest: int = 5) -> tuple[int, ...]:
    """Blocks that sum to n, some of them empty."""
    blocks: list[int] = draw(st.lists(st.just(0), max_size=1))
    while sum(blocks) < n:
        blocks.append(draw(st.integers(0, min(largest, n - sum(blocks)))))
    return (*blocks, *draw(st.lists(st.just(0), max_size=1)))


@st.composite
def cases(draw: st.DrawFn, longest: int = 9) -> Case:
    """A mask of any kind over packed segments, or over one that is not packed."""
    kind = draw(st.sampled_from(["full", "causal", "blocks"]))
    lengths, key_lengths = draw(segments(longest))
    if kind == "full" and key_lengths is not None:  # cross attention: any number of keys
        key_lengths = tuple(draw(st.integers(0, longest)) for _ in lengths)
    n_keys = sum(key_lengths if key_lengths is not None else lengths)
    blocks = None
    if kind == "blocks":
        blocks = sum((draw(tiling(n)) for n in key_lengths or lengths), ())
    window = draw(st.none() | st.integers(1, 5)) if kind != "full" else None
    sinks = draw(st.integers(0, 2)) if kind != "full" else 0
    if len(lengths) == 1 and draw(st.booleans()):
        return Case(Mask(kind, blocks, window, sinks), lengths[0], n_keys)
    return Case(Mask(kind, blocks, window, sinks, lengths, key_lengths), sum(lengths), n_keys)


def brute_force(case: Case) -> Tensor:
    """The rule of `Mask`, token pair by token pair."""
    mask, n_queries, n_keys = case
    q_lengths = mask.lengths if mask.lengths is not None else (n_queries,)
    k_lengths = mask.key_lengths or (mask.lengths if mask.lengths is not None else (n_keys,))
    ends = [sum((mask.blocks or ())[: i + 1]) for i in range(len(mask.blocks or ()))]

    def block(key: int) -> int:
        return key if mask.blocks is None else next(i for i, end in enumerate(ends) if key < end)

    seen = torch.zeros(n_queries, n_keys, dtype=torch.bool)
    for s, (n_q, n_k) in enumerate(zip(q_lengths, k_lengths, strict=True)):
        q0, k0 = sum(q_lengths[:s]), sum(k_lengths[:s])
        for i in range(n_q):
            for j in range(n_k):
                if mask.kind == "full":
                    seen[q0 + i, k0 + j] = True
                    continue
                mine, other, first = block(k0 + n_k - n_q + i), block(k0 + j), block(k0)
                recent = mask.window is None or mine - other < mask.window or other - first < mask.sinks
                seen[q0 + i, k0 + j] = other <= mine and recent
    return seen


def relative_error(x: Tensor, expected: Tensor) -> float:
    if not x.numel():
        return 0.0
    x, expected = x.detach(), expected.detach()
    return float((x.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1e-6))
