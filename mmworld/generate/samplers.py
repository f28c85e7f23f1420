"""How the next id is picked: small frozen values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mmworld.generate.rules import Rule

Pick = Callable[[Tensor], Tensor]
"""Logits [B, V] of one step to ids [B]."""


class Sampler(Protocol):
    """A way to pick ids.

    Attributes:
        rules: what the logits go through before an id is picked.
    """

    @property
    def rules(self) -> tuple[Rule, ...]: ...

    def start(self) -> Pick:
        """The picker of one generation, to be called once a step."""
        ...


@dataclass(frozen=True)
class Greedy:
    """The likeliest id, of those that the rules leave."""

    rules: tuple[Rule, ...] = ()

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
        top_p: of those, only the likeliest that together reach this probability (Holtzman et al. 2020, eq. 2).
        min_p: only ids that are at least so likely beside the likeliest (Nguyen et al. 2024, section 3).
        seed: of the random numbers.
        rules: what the logits go through first.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float = 0.0
    seed: int = 0
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, is {self.temperature}; for no chance at all use Greedy()")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, is {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], is {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be in [0, 1], is {self.min_p}")

    def start(self) -> Pick:
        numbers = torch.Generator().manual_seed(self.seed)
        return lambda logits: self._pick(logits, float(torch.rand((), generator=numbers, dtype=torch.float64)))

    def probabilities(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """How likely each id is picked, and the ids [B, V], the likeliest first; not yet divided by their sum."""
        p, ids = (logits.double() / self.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
        if self.top_k is not None:
            p[:, self.top_k :] = 0
            p /= p.sum(-1, keepdim=True)
        if self.top_p is not None:
            p[p.cumsum(-1) - p >= self.top_p] = 0
        p[p < self.min_p * p[:, :1]] = 0
        return p, ids

    def _pick(self, logits: Tensor, u: float) -> Tensor:
        p, ids = self.probabilities(logits)
        upto = p.cumsum(-1)
        place = (upto <= u * upto[:, -1:]).sum(-1, keepdim=True)  # the inverse of the cumulative distribution at u
        return ids.gather(-1, place)[:, 0]


GREEDY = Greedy()
