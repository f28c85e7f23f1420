"""The Perceiver resampler (Alayrac et al. 2022, Flamingo, section 3.1.1): so many tokens of a picture or a film."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from mmworld.nn.attention import CrossAttention, Pass
from mmworld.nn.layer import Layer, TransformerConfig, make_norm
from mmworld.nn.transformer import Transformer


class Resampler(nn.Module):
    """Learned latents that look at what is seen, however much it is, and at each other (figure 5).

    Args:
        c: sizes, of what is seen too.
        n: latents.
        frames: of a film that have a learned time; None is pictures alone, which have none.
        normed: whether queries and keys are normed head by head.
    """

    def __init__(self, c: TransformerConfig, n: int, *, frames: int | None = None, normed: bool = False) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(n, c.dim))
        self.times = nn.Parameter(torch.randn(frames, c.dim)) if frames else None
        self.backbone = Transformer(c, layer=lambda _: Layer(c, attention=Latents(c, normed=normed)))

    def forward(self, seen: Tensor) -> Tensor:
        """Tokens of films [P, F, N, D], of one frame where they are pictures, to [P, n, D].

        Raises:
            ValueError: there are more frames than times were learned.
        """
        n = seen.shape[1]
        if n > (most := 1 if self.times is None else len(self.times)):
            raise ValueError(f"a film of {n} frames, the model has learned {most}")
        if self.times is not None:
            seen = seen + self.times[:n, None]
        return self.backbone(self.latents.expand(len(seen), -1, -1), context=seen.flatten(1, 2))


class Latents(nn.Module):
    """Attention of latents to a context, which is normed, and to themselves, in one row of keys."""

    def __init__(self, c: TransformerConfig, *, normed: bool = False) -> None:
        super().__init__()
        head_dim = c.head_dim or c.dim // c.n_heads
        q_norm, k_norm = (nn.LayerNorm(head_dim) if normed else None for _ in range(2))
        self.norm = make_norm(c)
        self.cross = CrossAttention(c, q_norm=q_norm, k_norm=k_norm)

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        """x [B, n, D] to [B, n, D]."""
        keys = torch.cat((self.norm(run.context), x), dim=1)
        return self.cross(x, replace(run, context=keys), layer)
