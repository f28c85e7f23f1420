"""Positions: rotary, relative, learned and sinusoidal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmworld.attention import Mask
from mmworld.errors import ConfigError, LengthError


def positions(mask: Mask, n: int, device: torch.device | None = None) -> Tensor:
    """Position of each of a row's n tokens in its segment, int64 [n], counted from 0."""
    row = torch.arange(n, device=device)
    if mask.lengths is None:
        return row
    lengths = torch.tensor(mask.lengths, dtype=torch.long, device=device)
    return row - (lengths.cumsum(0) - lengths).repeat_interleave(lengths, output_size=n)


class Turn(NamedTuple):
    """The rotation of T positions: cosines and sines [T, 1, D / 2]."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x [B, n, H, D] turned by the last n of the positions."""
        if not x.shape[1]:
            return x
        a, b = x.chunk(2, dim=-1)
        cos, sin = self.cos[-x.shape[1] :], self.sin[-x.shape[1] :]
        y = x * torch.cat((cos, cos), dim=-1)
        y[..., : a.shape[-1]].addcmul_(b, sin, value=-1)  # in place: of many keys, memory is what takes the time
        y[..., a.shape[-1] :].addcmul_(a, sin)
        return y


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021, eq. 34), halves rotated as in LLaMA.

    Args:
        head_dim: even width of a head.
        theta: base of the wavelengths.
        scaling: of the frequencies float64 [D / 2], for a longer context than was trained on.
        sections: of positions on A axes, how many frequencies turn by each axis in turn (Wang et al. 2024, Qwen2-VL,
            section 2.1); () is one axis.

    Raises:
        ConfigError: the sections are not as many as the frequencies.
    """

    def __init__(
        self,
        head_dim: int,
        theta: float = 10_000.0,
        scaling: Callable[[Tensor], Tensor] | None = None,
        sections: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        if sections and sum(sections) != head_dim // 2:
            raise ConfigError(f"sections {sections} of a rotation sum to {sum(sections)}, not {head_dim // 2}")
        self.head_dim, self.theta, self.scaling, self.sections = head_dim, theta, scaling, sections

    def forward(self, positions: Tensor, dtype: torch.dtype) -> Turn:
        """The rotation of positions [T] or, on axes, [A, T]: made in float64, whatever the model's own precision."""
        exponent = torch.arange(0, self.head_dim, 2, dtype=torch.float64, device=positions.device) / self.head_dim
        frequencies = self.theta**-exponent
        if self.scaling is not None:
            frequencies = self.scaling(frequencies)
        if self.sections:
            axes = positions.broadcast_to(len(self.sections), positions.shape[-1])
            at = torch.cat([axis.expand(n, -1) for axis, n in zip(axes, self.sections, strict=True)]).mT
        else:
            at = positions[:, None]
        angle = (at.double() * frequencies)[:, None]
        return Turn(angle.cos().to(dtype), angle.sin().to(dtype))


class RelativeBias(nn.Module):
    """A learned logit for each head and bin of distance, as in T5 (Raffel et al. 2020, section 2.1).

    Args:
        n_heads: heads H.
        n_buckets: bins of distance.
        longest: distance from which on all share the last bin.
        causal: whether keys lie behind their queries only, so that all bins serve that side.
    """

    def __init__(self, n_heads: int, n_buckets: int = 32, longest: int = 128, causal: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(n_buckets, n_heads)
        self.longest, self.causal = longest, causal

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Logits [H, Tq, Tk] of queries at positions [Tq] for keys at [Tk]."""
        return self.table(self._bucket(queries[:, None] - keys[None, :])).permute(2, 0, 1)

    def _bucket(self, back: Tensor) -> Tensor:
        """The bin of keys that lie `back` tokens before their queries."""
        n = self.table.num_embeddings
        if self.causal:
            return self._bin(back.clamp_min(0), n)
        return self._bin(back.abs(), n // 2) + n // 2 * (back < 0)

    def _bin(self, distance: Tensor, n: int) -> Tensor:
        """Half of the n bins hold one distance each, the other half ranges that grow to `longest`."""
        exact = n // 2
        growth = (distance.clamp_min(1) / exact).log() / math.log(self.longest / exact)
        return torch.where(distance < exact, distance, (exact + growth * (n - exact)).long().clamp_max(n - 1))


class ByQuery(NamedTuple):
    """Logits of keys at distances, which each query makes itself: a table [R, D] and its rows int64 [Tq, Tk]."""

    table: Tensor
    rows: Tensor

    def __call__(self, q: Tensor) -> Tensor:
        """Queries [B, Tq, H, D] to logits [B, H, Tq, Tk]."""
        each = (q @ self.table.mT).transpose(1, 2)
        return each.gather(-1, self.rows.expand(*each.shape[:2], -1, -1))


class RelativeKeys(nn.Module):
    """A learned key for each distance, which a query looks at as at the key there (Shaw et al. 2018, section 3.2).

    Args:
        head_dim: width D of a head.
        longest: keys from so many tokens ahead on share one, keys from `longest - 1` behind on another.
    """

    def __init__(self, head_dim: int, longest: int) -> None:
        super().__init__()
        self.table = nn.Embedding(2 * longest, head_dim)
        self.longest = longest

    def forward(self, queries: Tensor, keys: Tensor) -> ByQuery:
        """What makes the logits of queries at positions [Tq] for keys at [Tk]."""
        back = queries[:, None] - keys[None, :]
        return ByQuery(self.table.weight, back.clamp(-self.longest, self.longest - 1) + self.longest)


class Learned(nn.Module):
    """A learned vector for each position (GPT-2, BERT, ViT).

    Args:
        limit: number of positions.
        dim: width D.
    """

    def __init__(self, limit: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(limit, dim)

    def forward(self, positions: Tensor) -> Tensor:
        """Vectors [N, D] of positions [N]; LengthError if one is not below the limit."""
        if positions.numel() and int(positions.max()) >= self.table.num_embeddings:
            raise LengthError(f"position {int(positions.max())}, the model has learned {self.table.num_embeddings}")
        return self.table(positions)


def sinusoid(t: Tensor, dim: int, shortest: float, longest: float) -> Tensor:
    """Float64 seconds [N] as sines and cosines [N, dim] of periods spaced geometrically from shortest to longest."""
    steps = torch.linspace(0, 1, dim // 2, dtype=torch.float64, device=t.device)
    periods = shortest * (longest / shortest) ** steps
    phase = 2 * torch.pi * (t.double()[:, None] / periods % 1.0)
    return torch.cat((phase.sin(), phase.cos()), dim=1)


def sinusoids(at: Tensor, like: Tensor) -> Tensor:
    """Places [N], the first of them 2, as sines and then cosines [N, D]: fairseq's, in float32 as it makes them."""
    half = like.shape[-1] // 2
    rates = torch.exp(torch.arange(half, device=at.device) * -(math.log(10_000) / (half - 1)))
    phase = (at + 2).float()[:, None] * rates
    return torch.cat((phase.sin(), phase.cos()), dim=1).to(like.dtype)
