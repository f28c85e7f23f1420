"""Training of boxes in clouds: things and queries matched as a whole, and what is asked of each match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mmworld.errors import UsageError
from mmworld.models.zoo.grounding3d import Found

NONE = 0.1
"""Weight of queries that name nothing, as most do (Carion et al. 2020, DETR, section 4)."""


@dataclass(frozen=True, eq=False)
class Things:
    """What is in a cloud: boxes [K, 7], and the phrase of each, int64 [K]."""

    boxes: Tensor
    phrase: Tensor


def match(found: Found, things: Things) -> tuple[Tensor, Tensor]:
    """Queries and things, one of each, at the least cost in all (DETR, eq. 1): int64 [K] both.

    Raises:
        UsageError: scipy is not installed.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise UsageError("matching boxes needs scipy", hint="pip install 'mmworld[train]'") from None

    with torch.no_grad():
        likely = found.logits.softmax(-1)[:, things.phrase]
        cost = _apart(found.boxes[:, None], things.boxes[None]) - likely
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return torch.from_numpy(rows).to(cost.device), torch.from_numpy(columns).to(cost.device)


def loss(found: Sequence[Found], things: Sequence[Things]) -> Tensor:
    """Of naming each query, and of the boxes of those that are matched; the mean over clouds."""
    total = []
    for one, there in zip(found, things, strict=True):
        query, thing = match(one, there)
        none = one.logits.shape[1] - 1
        name = torch.full((len(one.logits),), none, device=one.logits.device)
        name[query] = there.phrase[thing]
        weight = torch.ones(none + 1, device=name.device, dtype=one.logits.dtype)
        weight[none] = NONE
        boxes = _apart(one.boxes[query], there.boxes[thing]).sum() / max(len(thing), 1)
        total.append(F.cross_entropy(one.logits, name, weight) + boxes)
    return torch.stack(total).mean()


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """How far boxes [..., 7] are from each other: metres between centres and doublings of their sides; the turn counts
    as far as the foot is longer than wide."""
    size, true = a[..., 3:6].log2(), b[..., 3:6].log2()
    turn = 1 - (2 * (a[..., 6] - b[..., 6])).cos()
    return (
        (a[..., :3] - b[..., :3]).norm(dim=-1)
        + (size - true).abs().mean(-1)
        + turn * (true[..., 0] - true[..., 1]).abs()
    )
