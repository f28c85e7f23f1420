"""The parts of a transformer: its config, norms, feed-forward and layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config
from mmworld.nn.attention import Attention, Pass

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "silu": F.silu,
}


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
        order: where norms stand: "pre", at the start of a branch and after the last layer; "post", after each sum.
        head_dim: width of a head; None is dim / n_heads.
        qkv_bias: whether the projections to queries, keys and values have a bias; None is as `bias`.
    """

    dim: int
    depth: int
    n_heads: int
    n_kv_heads: int | None = None
    hidden: int | None = None
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-5
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"] = "gelu"
    gated: bool = False
    bias: bool = True
    dropout: float = 0.0
    order: Literal["pre", "post"] = "pre"
    head_dim: int | None = None
    qkv_bias: bool | None = None


def make_norm(c: TransformerConfig) -> nn.Module:
    return (nn.LayerNorm if c.norm == "layer" else nn.RMSNorm)(c.dim, eps=c.norm_eps)


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


class LayerScale(nn.Module):
    """A learned factor for each channel at the end of a branch (Touvron et al. 2021, eq. 2; DINOv2)."""

    def __init__(self, dim: int, init: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Layer(nn.Module):
    """Attention, cross-attention if there is any, and feed-forward, each on a residual branch.

    Args:
        c: sizes, and where the norms stand.
        attention: in place of `Attention(c)`; called with (x, pass, layer).
        cross: between attention and feed-forward, called alike.
        feed: in place of `FeedForward(c)`.
        end: makes the module that ends each branch, in place of dropout: a layer scale, a second norm, a gate.
    """

    def __init__(
        self,
        c: TransformerConfig,
        *,
        attention: nn.Module | None = None,
        cross: nn.Module | None = None,
        feed: nn.Module | None = None,
        end: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        make_end = end or (partial(nn.Dropout, c.dropout) if c.dropout else nn.Identity)
        self.post = c.order == "post"
        self.norm_attention, self.attention, self.end_attention = make_norm(c), attention or Attention(c), make_end()
        self.cross = cross
        if cross is not None:
            self.norm_cross, self.end_cross = make_norm(c), make_end()
        self.norm_feed, self.feed, self.end_feed = make_norm(c), feed or FeedForward(c), make_end()

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        """x [B, T, D] to [B, T, D]."""
        return self.think(self.look(self.attend(x, run, layer), run, layer))

    def attend(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        """The branch of the attention."""
        return self.branch(x, self.norm_attention, lambda y: self.end_attention(self.attention(y, run, layer)))

    def look(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        """The branch of the cross-attention, if there is any."""
        if (cross := self.cross) is None:
            return x
        return self.branch(x, self.norm_cross, lambda y: self.end_cross(cross(y, run, layer)))

    def think(self, x: Tensor) -> Tensor:
        """The branch of the feed-forward."""
        return self.branch(x, self.norm_feed, lambda y: self.end_feed(self.feed(y)))

    def branch(self, x: Tensor, norm: nn.Module, branch: Callable[[Tensor], Tensor]) -> Tensor:
        return norm(x + branch(x)) if self.post else x + branch(norm(x))
