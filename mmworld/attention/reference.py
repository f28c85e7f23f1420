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
    seen = mask.dense(q.shape[1], k.shape[1], q.device)
    weights = logits.masked_fill(~seen, -torch.inf).softmax(-1)
    weights = weights.masked_fill(~seen, 0.0)  # a row that sees nothing is NaN after softmax
    return torch.einsum("bhqk,bkhd->bqhd", weights, v).to(q.dtype)
