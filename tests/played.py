"""A transformer over a stream played through block by block: what each sees is a list, without states and masks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmworld.nn.transformer import Transformer


class Played:
    """Each block computed from what its cache would hold, positions counted in that cache.

    Attributes:
        held: of each layer the keys before rotation and the values of every block [B, n, Hkv, D].
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.held: list[list[tuple[Tensor, Tensor]]] = [[] for _ in model.layers]

    def push(self, x: Tensor, seen: list[int]) -> Tensor:
        """The next block [B, n, D] through all layers; it sees these blocks, its own, the last, included."""
        for layer, held in zip(self.model.layers, self.held, strict=True):
            attn, y = layer.attention, layer.norm_attention(x)
            sizes = attn.n_heads, attn.n_kv_heads, attn.n_kv_heads
            q, *kv = attn.qkv(y).unflatten(-1, (-1, attn.head_dim)).split(sizes, dim=2)
            held.append(tuple(kv))
            keys, values = (torch.cat(z, dim=1) for z in zip(*(held[j] for j in seen), strict=True))
            position = torch.arange(keys.shape[1], dtype=torch.float64)
            keys, queries = turned(keys, position), turned(q, position[len(position) - q.shape[1] :])
            keys, values = (z.repeat_interleave(attn.n_heads // attn.n_kv_heads, dim=2) for z in (keys, values))
            weights = (torch.einsum("bqhd,bkhd->bhqk", queries, keys) / attn.head_dim**0.5).softmax(-1)
            x = x + attn.out(torch.einsum("bhqk,bkhd->bqhd", weights, values).flatten(2))
            x = x + layer.feed(layer.norm_feed(x))
        return self.model.norm(x)

    def pop(self, n: int) -> None:
        """Forget the last n blocks."""
        for held in self.held:
            del held[len(held) - n :]


def streamed_by_definition(
    model: Transformer, x: Tensor, blocks: tuple[int, ...], seen: Callable[[int], list[int]]
) -> Tensor:
    """What becomes of x [B, N, D] where block i sees the blocks seen(i)."""
    played = Played(model)
    return torch.cat([played.push(part, seen(i)) for i, part in enumerate(x.split(blocks, dim=1))], dim=1)


def turned(x: Tensor, position: Tensor) -> Tensor:
    """Rotation as complex multiplication (Su et al. 2021, eq. 14)."""
    half = x.shape[-1] // 2
    angle = position[:, None, None] * 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((turned.real, turned.imag), dim=-1)


def seen_by(i: int, window: int, sinks: int) -> list[int]:
    """The blocks that block i sees, its own counted."""
    return [j for j in range(i + 1) if j < sinks or j > i - window]


def seen_of_each_kind(kinds: list[int], limits: list[int | None], window: int | None, sinks: int) -> list[list[int]]:
    """What each block sees where so many blocks of each kind are kept, and so many in all, by playing it through."""
    held, seen = [], []
    for i, kind in enumerate(kinds):
        loose = [j for j in held if j >= sinks]
        limit = limits[kind]
        if limit is not None and i >= sinks:
            same = [j for j in loose if kinds[j] == kind]
            loose = [j for j in loose if j not in same[: max(len(same) + 1 - limit, 0)]]
        if window is not None and i >= sinks:
            loose = loose[max(len(loose) + 1 - window, 0) :]
        held = [*range(min(sinks, i)), *loose, i]
        seen.append(held)
    return seen
