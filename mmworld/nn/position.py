"""Positions: rotary and sinusoidal."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021, eq. 34), halves rotated as in LLaMA.

    Args:
        head_dim: even width of a head.
        theta: base of the wavelengths.
    """

    frequency: Tensor

    def __init__(self, head_dim: int, theta: float = 10_000.0) -> None:
        super().__init__()
        exponent = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
        self.register_buffer("frequency", theta**-exponent, persistent=False)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x [B, T, H, D] turned by its positions [T]."""
        angle = positions[:, None].double() * self.frequency.double()
        cos, sin = angle.cos().to(x.dtype)[:, None], angle.sin().to(x.dtype)[:, None]
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def sinusoid(t: Tensor, dim: int, shortest: float, longest: float) -> Tensor:
    """Float64 seconds [N] as sines and cosines [N, dim] of periods spaced geometrically from shortest to longest."""
    steps = torch.linspace(0, 1, dim // 2, dtype=torch.float64, device=t.device)
    periods = shortest * (longest / shortest) ** steps
    phase = 2 * torch.pi * (t.double()[:, None] / periods % 1.0)
    return torch.cat((phase.sin(), phase.cos()), dim=1)
