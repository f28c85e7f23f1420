"""Attention layers: of tokens to their own row and its past, and to a context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from mmworld.attention import FULL, Mask, attention
from mmworld.errors import ConfigError
from mmworld.nn.position import Turn
from mmworld.nn.state import KVState
from mmworld.nn.streams import Wave

if TYPE_CHECKING:
    from mmworld.nn.layer import TransformerConfig


@dataclass(frozen=True)
class Pass:
    """What all layers of one pass share.

    Attributes:
        mask: of tokens to tokens, held ones included.
        turn: rotation of the new tokens, its last positions.
        turn_keys: rotation of all keys, where they are held before rotation.
        bias: of the logits, broadcastable to [B, H, Tq, Tk], or what makes them of the scaled queries [B, Tq, H, D].
        state: where keys and values are remembered.
        context: [B, M, C] for cross-attention; None is the one that the state holds.
        context_mask: of tokens to context.
    """

    mask: Mask = FULL
    turn: Turn | None = None
    turn_keys: Turn | None = None
    bias: Tensor | Callable[[Tensor], Tensor] | None = None
    state: KVState | Wave | None = None
    context: Tensor | None = None
    context_mask: Mask = FULL


class Attention(nn.Module):
    """Self-attention with grouped heads (Ainslie et al. 2023).

    Args:
        c: sizes.
        scale: of the logits; None is head_dim ** -0.5.
        q_norm, k_norm: applied to each head's query and key before rotation (Qwen3, Gemma 3).

    Raises:
        ConfigError: the heads do not divide the width, or key heads the query heads.
    """

    def __init__(
        self,
        c: TransformerConfig,
        *,
        scale: float | None = None,
        q_norm: nn.Module | None = None,
        k_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.head_dim, self.n_heads, self.n_kv_heads = head_sizes(c)
        self.qkv = nn.Linear(c.dim, (self.n_heads + 2 * self.n_kv_heads) * self.head_dim, bias=qkv_bias(c))
        self.out = nn.Linear(self.n_heads * self.head_dim, c.dim, bias=c.bias)
        self.q_norm, self.k_norm, self.scale = q_norm or nn.Identity(), k_norm or nn.Identity(), scale

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        """x [B, T, D] to [B, T, D]; `layer` is where the state keeps this layer's keys."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))
        q, k, v = heads.split((self.n_heads, self.n_kv_heads, self.n_kv_heads), dim=2)
        q, k = self.q_norm(q), self.k_norm(k)
        if run.turn is not None:
            q = run.turn(q)
            k = run.turn(k) if run.turn_keys is None else k
        if run.state is not None:
            k, v = run.state.update(layer, k, v)
        if run.turn_keys is not None:
            k = run.turn_keys(k)
        scale = self.head_dim**-0.5 if self.scale is None else self.scale
        bias = run.bias(q * scale) if callable(run.bias) else run.bias
        return self.out(attention(q, k, v, run.mask, bias=bias, scale=scale).flatten(2))


class CrossAttention(nn.Module):
    """Attention to a context, whose keys and values a state keeps.

    Args:
        c: sizes.
        context_dim: width of the context; None is that of the tokens.
        scale: of the logits; None is head_dim ** -0.5.
        q_norm, k_norm: applied to each head's query and key.
    """

    def __init__(
        self,
        c: TransformerConfig,
        *,
        context_dim: int | None = None,
        scale: float | None = None,
        q_norm: nn.Module | None = None,
        k_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.head_dim, n_heads, n_kv_heads = head_sizes(c)
        self.q = nn.Linear(c.dim, n_heads * self.head_dim, bias=qkv_bias(c))
        self.kv = nn.Linear(context_dim or c.dim, 2 * n_kv_heads * self.head_dim, bias=qkv_bias(c))
        self.out = nn.Linear(n_heads * self.head_dim, c.dim, bias=c.bias)
        self.q_norm, self.k_norm, self.scale = q_norm or nn.Identity(), k_norm or nn.Identity(), scale

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        """x [B, T, D] to [B, T, D]; ValueError if there is no context, given or held."""
        q = self.q_norm(self.q(x).unflatten(-1, (-1, self.head_dim)))
        k, v = self._context(run, layer)
        return self.out(attention(q, k, v, run.context_mask, scale=self.scale).flatten(2))

    def _context(self, run: Pass, layer: int) -> tuple[Tensor, Tensor]:
        if run.context is not None:
            k, v = self.kv(run.context).unflatten(-1, (-1, self.head_dim)).chunk(2, dim=2)
            k = self.k_norm(k)
            if run.state is not None:
                run.state.context[layer] = k, v
            return k, v
        if run.state is None or layer not in run.state.context:
            raise ValueError("cross-attention needs a context, or a state that holds one")
        return run.state.context[layer]


def head_sizes(c: TransformerConfig) -> tuple[int, int, int]:
    """Head width, query heads, key heads; ConfigError if they do not fit together."""
    kv_heads = c.n_kv_heads or c.n_heads
    if c.head_dim is None and c.dim % c.n_heads:
        raise ConfigError(f"dim {c.dim} is no multiple of n_heads {c.n_heads}", hint="or give head_dim")
    if c.n_heads % kv_heads:
        raise ConfigError(f"n_heads {c.n_heads} is no multiple of n_kv_heads {kv_heads}")
    return c.head_dim or c.dim // c.n_heads, c.n_heads, kv_heads


def qkv_bias(c: TransformerConfig) -> bool:
    return c.bias if c.qkv_bias is None else c.qkv_bias
