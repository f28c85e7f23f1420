"""Networks that every point goes through by itself, channels before points as convolutions of width one have them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.weights.keymap import Place
from mmworld.weights.names import batch_norm

_LINEAR = nn.Linear, partial(nn.Conv1d, kernel_size=1), partial(nn.Conv2d, kernel_size=1)
_NORM = nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d


class Step(nn.Module):
    """A linear layer, its batch norm and ReLU.

    Args:
        axes: over which points lie: 0 [B, C], 1 [B, C, P], 2 [B, C, K, N].
        dropout: after it, in training.
    """

    def __init__(self, c_in: int, c_out: int, axes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear, self.norm = _LINEAR[axes](c_in, c_out), _NORM[axes](c_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(F.relu(self.norm(self.linear(x))))


def steps(widths: Sequence[int], axes: int, dropout: float = 0.0) -> nn.Sequential:
    """Steps from each of the widths to the next."""
    return nn.Sequential(*(Step(a, b, axes, dropout) for a, b in pairwise(widths)))


def step_names(ours: str, linear: str, norm: str) -> dict[str, Place]:
    """The names of a step whose layer and norm have these."""
    return {f"{ours}.linear.*": f"{linear}.*", **batch_norm(f"{ours}.norm", norm)}
