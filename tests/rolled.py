"""What a stream in pieces with budgets is by definition: written without states, masks and our rotation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from mmworld.nn.rolling import Piece


def seen_by(pieces: Sequence[Piece], budgets: Sequence[float]) -> list[list[int]]:
    """The pieces that each piece sees, itself the last: of its own kind the most recent ones that fit beside it."""
    out: list[list[int]] = []
    for i, piece in enumerate(pieces):
        held = out[-1] if out else []
        mine = [j for j in held if pieces[j].kind == piece.kind]
        fits = [
            j
            for n, j in enumerate(mine)
            if sum(pieces[m].weight for m in mine[n:]) + piece.weight <= budgets[piece.kind] + 1e-9
        ]
        out.append([*(j for j in held if j not in mine or j in fits), i])
    return out


def positions(pieces: Sequence[Piece], held: Sequence[int]) -> Tensor:
    """Of the tokens of pieces that stand one after the other [A, T]."""
    starts = accumulate((pieces[j].span for j in held), initial=0)
    return torch.cat([torch.atleast_2d(pieces[j].at) + s for j, s in zip(held, starts, strict=False)], dim=1)


def turned(x: Tensor, at: Tensor, theta: float, sections: Sequence[int]) -> Tensor:
    """x [B, T, H, D] rotated as complex numbers, each frequency by its axis (Su et al. 2021, eq. 14)."""
    half = x.shape[-1] // 2
    axis = [a for a, n in enumerate(sections or [half]) for _ in range(n)]
    rates = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = (at[axis].mT.double() * rates)[:, None]
    y = torch.complex(x[..., :half].double(), x[..., half:].double()) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((y.real, y.imag), dim=-1).to(x.dtype)


def by_definition(model: Any, xs: Sequence[Tensor], pieces: Sequence[Piece], budgets: Sequence[float]) -> Tensor:
    """All pieces [1, N, D] through all layers of our transformer, in one go each."""
    x, rotary, seen = torch.cat(list(xs), dim=1), model.position, seen_by(pieces, budgets)
    edges = list(pairwise(accumulate((t.shape[1] for t in xs), initial=0)))
    for layer in model.layers:
        attn = layer.attention
        d, h, kv = attn.head_dim, attn.n_heads, attn.n_kv_heads
        q, k, v = attn.qkv(layer.norm_attention(x)).unflatten(-1, (-1, d)).split((h, kv, kv), dim=2)
        out = []
        for (a, b), held in zip(edges, seen, strict=True):
            at, n = positions(pieces, held), b - a
            keys, values = (torch.cat([z[:, slice(*edges[j])] for j in held], dim=1) for z in (k, v))
            keys, queries = (
                turned(z, w, rotary.theta, rotary.sections) for z, w in ((keys, at), (q[:, a:b], at[:, -n:]))
            )
            keys, values = (z.repeat_interleave(h // kv, dim=2) for z in (keys, values))
            logits = torch.einsum("bqhd,bkhd->bhqk", queries, keys) / d**0.5
            later = torch.arange(keys.shape[1]) > torch.arange(keys.shape[1] - n, keys.shape[1])[:, None]
            weights = logits.masked_fill(later, -torch.inf).softmax(-1)
            out.append(torch.einsum("bhqk,bkhd->bqhd", weights, values).flatten(2))
        x = x + attn.out(torch.cat(out, dim=1))
        x = x + layer.feed(layer.norm_feed(x))
    return model.norm(x)
