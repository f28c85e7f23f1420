"""Muon, for weights that multiply: steps whose singular values are all about one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn

COEFFICIENTS = 3.4445, -4.7750, 2.0315
ROUNDS = 5
SIZE = 0.4
"""Root mean square of a step at learning rate 1: twice what AdamW's has (0.2: Liu et al. 2025, equation 4), which
learns rendered scenes in fewer steps here."""


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal (Jordan et al. 2024), for matrices and kernels of convolutions.

    torch's own takes matrices alone and works in bfloat16, which many CPUs only emulate. The processes of a distributed
    run, whose gradients are alike, share the work.

    Args:
        params: parameters of two dimensions or more; a kernel [out, ...] is the matrix [out, rest].
        lr: learning rate, of the size that AdamW would take.
        momentum: share of the mean gradient that is kept from step to step.
        weight_decay: share of a weight that a step takes off, times lr.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                mean = state["momentum"]
                mean.lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(mean, group["momentum"]).flatten(1)
                alike[tuple(ahead.shape)].append((p, ahead))
            for shape, found in alike.items():
                steps = _together(torch.stack([s for _, s in found])) * (SIZE * max(shape) ** 0.5)
                for (p, _), s in zip(found, steps, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(s.view_as(p), alpha=-group["lr"])


def _together(x: Tensor) -> Tensor:
    """`orthogonal` of [K, M, N], each process making its share of the K."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return orthogonal(x)
    mine = slice(distributed.get_rank(), None, distributed.get_world_size())
    whole = torch.zeros_like(x)
    whole[mine] = orthogonal(x[mine])
    distributed.all_reduce(whole)
    return whole


def orthogonal(x: Tensor) -> Tensor:
    """Matrices [..., M, N] with their singular values brought to between 0.7 and 1.2, where they are not too small:
    five rounds of a Newton-Schulz iteration (Jordan et al. 2024)."""
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x
