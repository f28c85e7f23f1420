"""One transformer. A config holds what every transformer has; what one family alone needs is a module handed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import FULL, Mask, attention
from mmworld.config import config
from mmworld.nn.state import KVState

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}


@config
class TransformerConfig:
    """Sizes and choices that every transformer has.

    Attributes:
        dim: width D of a token.
        depth: number of layers.
        n_heads: query heads H.
        n_kv_heads: key and value heads; None is as many as query heads.
        hidden: width of the feed-forward layer; None is 4 * dim.
        norm: "layer" or "rms".
        activation: of the feed-forward layer.
        gated: whether the activation gates a second projection (SwiGLU with "silu").
        bias: whether the linear layers have one.
        dropout: of each residual branch, in training.
    """

    dim: int
    depth: int
    n_heads: int
    n_kv_heads: int | None = None
    hidden: int | None = None
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-5
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    gated: bool = False
    bias: bool = True
    dropout: float = 0.0


def make_norm(c: TransformerConfig) -> nn.Module:
    return (nn.LayerNorm if c.norm == "layer" else nn.RMSNorm)(c.dim, eps=c.norm_eps)


class Attention(nn.Module):
    """Self-attention with grouped heads; `position` turns queries and keys."""

    def __init__(self, c: TransformerConfig, position: nn.Module | None) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = c.n_heads, c.n_kv_heads or c.n_heads
        self.head_dim = c.dim // c.n_heads
        self.qkv = nn.Linear(c.dim, (self.n_heads + 2 * self.n_kv_heads) * self.head_dim, bias=c.bias)
        self.out = nn.Linear(self.n_heads * self.head_dim, c.dim, bias=c.bias)
        self.position = position

    def forward(self, x: Tensor, mask: Mask, positions: Tensor, state: KVState | None, layer: int) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))
        q, k, v = heads.split((self.n_heads, self.n_kv_heads, self.n_kv_heads), dim=2)
        if state is not None:
            k, v = state.update(layer, k, v)
        if self.position is not None:
            q, k = self.position(q, positions[-q.shape[1] :]), self.position(k, positions)
        return self.out(attention(q, k, v, mask).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers around an activation, or three where it is gated (Shazeer 2020)."""

    def __init__(self, c: TransformerConfig) -> None:
        super().__init__()
        hidden = c.hidden or 4 * c.dim
        self.up = nn.Linear(c.dim, hidden * (2 if c.gated else 1), bias=c.bias)
        self.down = nn.Linear(hidden, c.dim, bias=c.bias)
        self.activation, self.gated = ACTIVATIONS[c.activation], c.gated

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(x)
        if not self.gated:
            return self.down(self.activation(up))
        gate, value = up.chunk(2, dim=-1)
        return self.down(self.activation(gate) * value)


class Layer(nn.Module):
    """Pre-norm attention and feed-forward, each on a residual branch."""

    def __init__(self, c: TransformerConfig, position: nn.Module | None) -> None:
        super().__init__()
        self.norm_attention, self.attention = make_norm(c), Attention(c, position)
        self.norm_feed, self.feed = make_norm(c), FeedForward(c)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, mask: Mask, positions: Tensor, state: KVState | None, layer: int) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_attention(x), mask, positions, state, layer))
        return x + self.dropout(self.feed(self.norm_feed(x)))


class Transformer(nn.Module):
    """A stack of layers and a final norm, over packed rows or over a stream."""

    def __init__(self, c: TransformerConfig, *, position: nn.Module | None = None) -> None:
        super().__init__()
        self.config = c
        self.layers = nn.ModuleList(Layer(c, position) for _ in range(c.depth))
        self.norm = make_norm(c)

    def forward(self, x: Tensor, mask: Mask = FULL, state: KVState | None = None) -> Tensor:
        """x [B, N, D] to [B, N, D].

        With a state, x is the next stretch of one stream: `mask` (causal or blocks) tells its blocks, the state's
        window and sinks hold, and the state then remembers x. Without one, a fresh stream is seen whole.
        """
        if state is None:
            return self._run(x, mask, _positions(mask, x), None)
        new = mask.blocks if mask.blocks is not None else (1,) * x.shape[1]
        if state.sinks and state.window and len(new) > 1 and len(state.blocks) + len(new) > state.sinks + state.window:
            # Sinks stand right before the window of each query, so blocks that shift the window go one by one.
            parts = x.split(list(new), dim=1)
            return torch.cat([self(p, Mask("blocks", (n,)), state) for p, n in zip(parts, new, strict=True)], dim=1)
        positions = torch.arange(len(state) + x.shape[1], device=x.device)
        x = self._run(x, state.mask(new), positions, state)
        state.advance(new)
        return x

    def _run(self, x: Tensor, mask: Mask, positions: Tensor, state: KVState | None) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x, mask, positions, state, i)
        return self.norm(x)


def _positions(mask: Mask, x: Tensor) -> Tensor:
    if mask.lengths is None:
        return torch.arange(x.shape[1], device=x.device)
    return torch.cat([torch.arange(n, device=x.device) for n in mask.lengths])
