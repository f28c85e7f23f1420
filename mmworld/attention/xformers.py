"""xformers' memory-efficient attention (Rabe and Staats 2021), on CUDA: the one file that imports xformers."""

from __future__ import annotations

import importlib
import logging
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmworld.attention.mask import FULL, Mask

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
CPU = torch.device("cpu")
ALIGN = 8
"""The width of a head, and of a row of a dense bias in memory, must be a multiple of it."""


def why_not(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None) -> list[str]:
    if q.device.type != "cuda":
        return [f"needs CUDA, the tensors are on {q.device.type.upper()}"]
    if _ops() is None:
        return ["not installed, pip install 'mmworld[gpu]'"]
    reasons = []
    if q.dtype not in DTYPES or not q.dtype == k.dtype == v.dtype:
        reasons.append(f"needs one of float16, bfloat16 and float32, got {q.dtype}, {k.dtype} and {v.dtype}")
    if q.shape[-1] % ALIGN or v.shape[-1] % ALIGN:
        reasons.append(f"head sizes must be multiples of {ALIGN}, got {q.shape[-1]} and {v.shape[-1]}")
    queries, keys = mask.spans(q.shape[1], k.shape[1])
    if not q.numel() or any(n_q and not n_k for n_q, n_k in zip(queries, keys, strict=True)):
        reasons.append("there are no queries, or queries without any key")
    rule = _shared_rule(mask, q.shape[1], k.shape[1])
    if len(queries) > 1 and (rule is None or bias is not None):
        reasons.append("the packed row would need a dense bias over all its pairs")
    if rule and rule.window and queries != keys and q.dtype == torch.float32 and _trains(q, k, v):
        reasons.append("no float32 gradients through a window with more keys than queries")
    return reasons


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None, scale: float) -> Tensor:
    ops = _ops()
    batch, n_queries, n_heads, _ = q.shape
    lowered = lower(mask, n_queries, k.shape[1], batch, q.device) if bias is None else None
    if bias is not None or isinstance(lowered, Tensor):
        seen = mask.dense(n_queries, k.shape[1], q.device) if lowered is None else lowered
        lowered = dense_bias(seen, bias, (batch, n_heads, n_queries, k.shape[1]), q.dtype)
    groups = n_heads // k.shape[2]
    if groups > 1:  # the kernels' own grouped layout has no gradients and takes no dense bias
        k, v = (x.repeat_interleave(groups, dim=2) for x in (k, v))
    if isinstance(lowered, ops.fmha.attn_bias.BlockDiagonalMask):
        q, k, v = (x.flatten(0, 1)[None] for x in (q, k, v))
    out = ops.memory_efficient_attention(q, k, v, attn_bias=lowered, scale=scale)
    return out.reshape(batch, n_queries, n_heads, -1)


@lru_cache(maxsize=8)  # all layers of a pass ask for the same
def lower(mask: Mask, n_queries: int, n_keys: int, batch: int = 1, device: torch.device = CPU) -> Any:
    """What xformers is told of a mask: one of its bias classes, None for "all see all", or a dense bool tensor.

    The block-diagonal classes speak of one row in which the rows of a batch lie one after the other.
    """
    classes = _ops().fmha.attn_bias
    rule = _shared_rule(mask, n_queries, n_keys)
    if rule is None:
        return mask.dense(n_queries, n_keys, device)
    queries, keys = (tuple(n * batch) for n in mask.spans(n_queries, n_keys))
    packed, even = len(queries) > batch, queries == keys
    if rule == FULL:
        return classes.BlockDiagonalMask.from_seqlens(queries, keys, device=device) if packed else None
    if rule.window is None and not packed:
        return classes.LowerTriangularMask() if even else classes.LowerTriangularFromBottomRightMask()
    diagonal = classes.BlockDiagonalMask.from_seqlens(queries, keys, device=device)
    causal = diagonal.make_causal() if even else diagonal.make_causal_from_bottomright()
    if rule.window is None:
        return causal
    if even:
        return causal.make_local_attention(rule.window)
    return diagonal.make_local_attention_from_bottomright(rule.window)


def dense_bias(seen: Tensor, bias: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Bool [Tq, Tk] and a bias as logits of `shape` [B, H, Tq, Tk], rows in memory padded to a multiple of `ALIGN`."""
    if bias is None:
        logits = torch.zeros(shape[-2:], dtype=dtype, device=seen.device)
    else:  # gradients need a bias that is not broadcast
        logits = bias.to(dtype).broadcast_to(shape if bias.requires_grad else (*bias.shape[:-2], *shape[-2:]))
    logits = logits.masked_fill(~seen, -torch.inf)
    return F.pad(logits, (0, -shape[-1] % ALIGN)).contiguous()[..., : shape[-1]].broadcast_to(shape)


def _shared_rule(mask: Mask, n_queries: int, n_keys: int) -> Mask | None:
    """The one rule, full or causal, that all segments of a mask follow; None if there is none."""
    rules = [(q, k, rule.simplest(q, k)) for q, k, rule in mask.segments(n_queries, n_keys) if q]
    if all(rule == FULL for _, _, rule in rules):
        return FULL
    causal = Mask("causal", window=next((rule.window for _, _, rule in rules if rule.window), None))
    return causal if all(causal.simplest(q, k) == rule for q, k, rule in rules) else None


def _trains(*inputs: Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in inputs)


@lru_cache(maxsize=1)
def _ops() -> Any:
    """xformers.ops, or None where it, or the one function that is asked of it, is missing."""
    log = logging.getLogger("xformers")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns that its own extension is for another torch; torch's kernels do the work
    try:
        ops = importlib.import_module("xformers.ops")
    except ImportError:
        return None
    finally:
        log.setLevel(level)
    return ops if hasattr(ops, "memory_efficient_attention") else None
