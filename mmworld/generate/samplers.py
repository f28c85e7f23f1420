"""How the next id is picked: small frozen values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Pick = Callable[[Tensor], Tensor]
"""Logits [B, V] of one step to ids [B]."""


class Sampler(Protocol):
    """A way to pick ids."""

    def start(self) -> Pick:
        """The picker of one generation, to be called once a step."""
        ...


@dataclass(frozen=True)
class Greedy:
    """The likeliest id."""

    def start(self) -> Pick:
        return lambda logits: logits.argmax(-1)


@dataclass(frozen=True)
class Sample:
    """A random id of the likeliest ones.

    Every row of a batch uses the same random number at the same step, so a text depends on its own input and the
    seed, not on the batch it was made in.

    Attributes:
        temperature: divides the logits; below 1 is safer.
        top_k: only the k likeliest ids; None is all.
        top_p: only the likeliest ids that together reach this probability (Holtzman et al. 2020, eq. 2); None is all.
        seed: of the random numbers.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, is {self.temperature}; for no chance at all use Greedy()")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, is {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], is {self.top_p}")

    def start(self) -> Pick:
        numbers = torch.Generator().manual_seed(self.seed)
        return lambda logits: self._pick(logits, float(torch.rand((), generator=numbers, dtype=torch.float64)))

    def _pick(self, logits: Tensor, u: float) -> Tensor:
        p, ids = (logits.double() / self.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
        if self.top_k is not None:
            p[:, self.top_k :] = 0
        if self.top_p is not None:
            p[p.cumsum(-1) - p >= self.top_p] = 0
        upto = p.cumsum(-1)
        place = (upto <= u * upto[:, -1:]).sum(-1, keepdim=True)  # the inverse of the cumulative distribution at u
        return ids.gather(-1, place)[:, 0]


GREEDY = Greedy()
