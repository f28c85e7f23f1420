"""torch's scaled_dot_product_attention: everywhere, each packed segment on its own.

On CPU a loop over the segments of a training batch takes half the time of one call on padded ones, forward and
backward (benchmarks/attention.py), and no memory for padding.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mmworld.attention.mask import CAUSAL, FULL, Mask

TILE = 128
"""Least number of queries that a windowed segment is cut into."""


class Piece(NamedTuple):
    """Queries of one segment, the stretch of its keys that they can see, and what they see of it (None is all)."""

    queries: slice
    keys: slice
    seen: Tensor | None
    causal: bool


class Segment(NamedTuple):
    n_queries: int
    n_keys: int
    pieces: list[Piece]


def why_not(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None) -> list[str]:
    return []


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None, scale: float) -> Tensor:
    rows, rule = _alike(mask, q.shape[1], k.shape[1]) if bias is None else (1, mask)
    if rows > 1:
        qs, ks, vs = (x.reshape(len(x) * rows, x.shape[1] // rows, *x.shape[2:]) for x in (q, k, v))
        return attend(qs, ks, vs, rule, bias, scale).reshape(*q.shape[:3], v.shape[3])
    n_queries, n_keys = q.shape[1], k.shape[1]
    plan = _plan(mask, n_queries, n_keys, q.device, bias is not None)
    if bias is not None:
        bias = bias.to(q.dtype).broadcast_to(*bias.shape[:-2], n_queries, n_keys)
    # split, not slices: the gradient of a slice is a whole row of zeros
    qs = q.transpose(1, 2).split([s.n_queries for s in plan], dim=2)
    ks, vs = (x.transpose(1, 2).split([s.n_keys for s in plan], dim=2) for x in (k, v))
    biases: list[Any] = [None] * len(plan) if bias is None else _blocks_of(bias, plan)
    parts = zip(plan, qs, ks, vs, biases, strict=True)
    out = [_segment(s.pieces, q, k, v, b, scale) for s, q, k, v, b in parts]
    return (out[0] if len(out) == 1 else torch.cat(out, dim=2)).transpose(1, 2)


def _blocks_of(bias: Tensor, plan: list[Segment]) -> list[Tensor]:
    """The diagonal blocks of a bias [..., n_queries, n_keys], one for each segment."""
    rows = bias.split([s.n_queries for s in plan], dim=-2)
    ends = accumulate(s.n_keys for s in plan)
    return [row[..., end - s.n_keys : end] for s, row, end in zip(plan, rows, ends, strict=True)]


def _segment(pieces: list[Piece], q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    if len(pieces) == 1:
        return _piece(pieces[0], q, k, v, bias, scale)
    out = []
    for p in pieces:
        part = None if bias is None else bias[..., p.queries, p.keys]
        out.append(_piece(p, q[:, :, p.queries], k[:, :, p.keys], v[:, :, p.keys], part, scale))
    return torch.cat(out, dim=2)


def _piece(p: Piece, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    if not q.shape[2] or not k.shape[2]:
        return q[..., :0].sum(-1, keepdim=True).expand(-1, -1, -1, v.shape[3])  # zeros that gradients reach
    seen, causal = p.seen, p.causal
    if bias is not None:
        seen = bias if seen is None else bias.masked_fill(~seen, -torch.inf)
    grouped = q.shape[1] != k.shape[1]
    return scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal, scale=scale, enable_gqa=grouped)


@lru_cache(maxsize=8)
def _alike(mask: Mask, n_queries: int, n_keys: int) -> tuple[int, Mask]:
    """Into how many rows a packed row is cut where all its segments are alike, so that one call serves them all; and
    the rule of each."""
    segments = mask.segments(n_queries, n_keys)
    return (len(segments), segments[0][2]) if len(segments) > 1 and len(set(segments)) == 1 else (1, mask)


@lru_cache(maxsize=8)  # a plan serves all layers of a pass; streams and batches bring a new mask each time
def _plan(mask: Mask, n_queries: int, n_keys: int, device: torch.device, biased: bool) -> list[Segment]:
    segments = mask.segments(n_queries, n_keys) or [(0, 0, FULL)]
    return [Segment(q, k, _pieces(rule.simplest(q, k), q, k, device, biased)) for q, k, rule in segments]


def _pieces(rule: Mask, n_queries: int, n_keys: int, device: torch.device, biased: bool) -> list[Piece]:
    if rule.kind == "full":
        return [Piece(slice(n_queries), slice(n_keys), None, False)]
    if rule == CAUSAL and n_queries == n_keys and not biased:
        return [Piece(slice(n_queries), slice(n_keys), None, True)]
    if rule.window is not None and not rule.sinks:
        return _tiles(rule, n_queries, n_keys, device)
    return [Piece(slice(n_queries), slice(n_keys), rule.dense(n_queries, n_keys, device), False)]


def _tiles(rule: Mask, n_queries: int, n_keys: int, device: torch.device) -> list[Piece]:
    """A windowed segment in stretches of about a window of queries: memory for N * window pairs, not N ** 2."""
    blocks = rule.blocks if rule.blocks is not None else (1,) * n_keys
    assert rule.window is not None
    step = max(rule.window, TILE * len(blocks) // n_keys, 1)
    edges = [0, *accumulate(blocks)]
    first = n_keys - n_queries  # the key that is the first query
    pieces = []
    for a in range(0, len(blocks), step):
        b = min(a + step, len(blocks))
        start, stop = max(edges[a], first), edges[b]
        if start >= stop:
            continue
        oldest = max(a + 1 - rule.window, 0)
        part = Mask("blocks", blocks[oldest:b], rule.window).dense(stop - start, stop - edges[oldest], device)
        pieces.append(Piece(slice(start - first, stop - first), slice(edges[oldest], stop), part, False))
    return pieces
