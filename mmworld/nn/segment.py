"""Reductions over packed rows: row i belongs to segment index[i]."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_mean(x: Tensor, index: Tensor, n: int) -> Tensor:
    """Mean over the rows of each of n segments: x [N, ...] to [n, ...]; an empty one gives zeros."""
    count = torch.bincount(index, minlength=n).clamp(min=1).to(x.dtype)
    return x.new_zeros(n, *x.shape[1:]).index_add(0, index, x) / count.view(-1, *[1] * (x.ndim - 1))


def segment_max(x: Tensor, index: Tensor, n: int) -> Tensor:
    """Maximum over the rows of each of n segments: x [N, D] to [n, D]; an empty one gives zeros."""
    rows = index[:, None].expand_as(x)
    return x.new_zeros(n, x.shape[1]).scatter_reduce(0, rows, x, "amax", include_self=False)
