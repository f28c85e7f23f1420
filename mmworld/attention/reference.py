"""Attention as its definition, in float64: what every other backend is held against."""

from __future__ import annotations

import torch
from torch import Tensor

from mmworld.attention.mask import Mask


def why_not(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None) -> list[str]:
    return []


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None, scale: float) -> Tensor:
    groups = q.shape[2] // k.shape[2]
    k, v = (x.double().repeat_interleave(groups, dim=2) for x in (k, v))
    logits = torch.einsum("bqhd,bkhd->bhqk", q.double(), k) * scale
    if bias is not None:
        logits = logits + bias.double()
    logits = logits.masked_fill(~mask.dense(q.shape[1], k.shape[1], q.device), -torch.inf)
    blind = (logits == -torch.inf).all(-1, keepdim=True)  # softmax of such a row, and its gradient, would be NaN
    weights = logits.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v).to(q.dtype)
