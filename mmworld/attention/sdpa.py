"""torch's scaled_dot_product_attention: everywhere, each packed segment on its own."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mmworld.attention.mask import Mask


def why_not(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None) -> list[str]:
    return []


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None, scale: float) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    pieces = [
        _segment(q[:, :, qs], k[:, :, ks], v[:, :, ks], rule, bias if bias is None else bias[..., qs, ks], scale)
        for qs, ks, rule in _segments(mask, q.shape[2], k.shape[2])
    ]
    return (pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)).transpose(1, 2)


@lru_cache(maxsize=64)
def _segments(mask: Mask, n_queries: int, n_keys: int) -> list[tuple[slice, slice, Mask]]:
    return mask.segments(n_queries, n_keys)


def _segment(q: Tensor, k: Tensor, v: Tensor, rule: Mask, bias: Tensor | None, scale: float) -> Tensor:
    n_queries, n_keys = q.shape[2], k.shape[2]
    if not n_queries or not n_keys:
        return q.new_zeros(*q.shape[:3], v.shape[3])
    causal = rule.kind == "causal" and rule.window is None and n_queries == n_keys and bias is None
    seen = None if causal or rule.kind == "full" else _dense(rule, n_queries, n_keys, q.device)
    if bias is not None:
        seen = bias.to(q.dtype) if seen is None else bias.to(q.dtype).masked_fill(~seen, -torch.inf)
    return scaled_dot_product_attention(
        q, k, v, attn_mask=seen, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )


@lru_cache(maxsize=256)
def _dense(rule: Mask, n_queries: int, n_keys: int, device: torch.device) -> Tensor | None:
    seen = rule.dense(n_queries, n_keys, device)
    return None if bool(seen.all()) else seen
