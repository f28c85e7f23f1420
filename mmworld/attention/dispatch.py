"""The only call site of any attention kernel."""

from __future__ import annotations

import logging
from functools import lru_cache

from torch import Tensor

from mmworld.attention import reference, sdpa, xformers
from mmworld.attention.mask import FULL, Mask
from mmworld.errors import AttentionError

log = logging.getLogger(__name__)
backends = {"xformers": xformers, "sdpa": sdpa, "reference": reference}
"""Name to module, in order of preference; "reference" is taken only by name."""


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask = FULL,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """softmax(q k^T * scale + bias) v over what `mask` lets each query see (Vaswani et al. 2017, eq. 1).

    Args:
        q: [B, Tq, H, D].
        k, v: [B, Tk, Hkv, D] and [B, Tk, Hkv, Dv]; H is a multiple of Hkv (grouped heads).
        bias: added to the logits, broadcastable to [B, H, Tq, Tk].
        scale: of the logits; None is D ** -0.5.
        backend: "xformers", "sdpa" or "reference"; None takes the first that fits.

    Returns:
        [B, Tq, H, Dv] in q's dtype. A query that sees no key gets zeros.

    Raises:
        AttentionError: no backend, or not the one named, takes these tensors; every reason is listed.
    """
    names = [backend] if backend else [n for n in backends if n != "reference"]
    refusals: list[str] = []
    for name in names:
        reasons = why_not(name, q, k, v, mask, bias)
        if not reasons:
            _announce(name, q.device.type, "; ".join(refusals))
            return backends[name].attend(q, k, v, mask, bias, scale if scale is not None else q.shape[-1] ** -0.5)
        refusals.append(f"{name}: {', '.join(reasons)}")
    raise AttentionError("no attention backend fits: " + "; ".join(refusals))


def why_not(name: str, q: Tensor, k: Tensor, v: Tensor, mask: Mask = FULL, bias: Tensor | None = None) -> list[str]:
    """The reasons for which the backend `name` does not take these arguments; empty if it does."""
    if name not in backends:
        return [f"no such backend, known: {', '.join(backends)}"]
    if q.shape[2] % k.shape[2]:
        return [f"{q.shape[2]} query heads are no multiple of {k.shape[2]} key heads"]
    return backends[name].why_not(q, k, v, mask, bias)


@lru_cache(maxsize=64)  # each choice is logged once
def _announce(name: str, device: str, refusals: str) -> None:
    log.info("attention on %s by %s%s", device, name, f" ({refusals})" if refusals else "")
