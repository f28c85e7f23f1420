"""What may be said next: small frozen values that change the scores before an id is picked.

A rule is a function of the text so far, so the rows of a batch may leave it and beams may change places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mmworld.errors import UsageError


class Prefix(NamedTuple):
    """A text so far, as ids.

    Attributes:
        given: by the prompt, as far as the caller of `decode` says.
        said: by the model since then.
    """

    given: Sequence[int]
    said: Sequence[int]

    @property
    def ids(self) -> list[int]:
        return [*self.given, *self.said]


Rule = Callable[[Sequence[Prefix], Tensor], Tensor]
"""The texts of B rows, and the scores [B, V] of their next ids, to other scores; -inf is never picked. The scores are
logits, or with a beam log-probabilities; they must not be changed in place."""


def ruled(rules: Sequence[Rule], texts: Sequence[Prefix], scores: Tensor) -> Tensor:
    """The scores [B, V] after all rules, in their order."""
    for rule in rules:
        scores = rule(texts, scores)
    return scores


def stuck() -> UsageError:
    """Nothing may be said any more."""
    return UsageError("the rules of decoding leave no id to go on with", hint="give fewer or weaker rules")


@dataclass(frozen=True)
class Repetition:
    """What stands in the text already is less likely, the prompt too (Keskar et al. 2019, section 4.1).

    Attributes:
        penalty: divides positive scores and multiplies negative ones; 1 changes nothing.
    """

    penalty: float = 1.2

    def __post_init__(self) -> None:
        if not self.penalty > 0:
            raise ValueError(f"penalty must be above 0, is {self.penalty}")

    def __call__(self, texts: Sequence[Prefix], scores: Tensor) -> Tensor:
        seen = torch.zeros_like(scores, dtype=torch.bool)
        for row, text in zip(seen, texts, strict=True):
            row[text.ids] = True
        less = torch.where(scores > 0, scores / self.penalty, scores * self.penalty)
        return torch.where(seen, less, scores)


@dataclass(frozen=True)
class Frequency:
    """What the model has said already is less likely: by so much for each time, and once by so much more.

    Attributes:
        frequency: taken from an id's score for every time that it was said.
        presence: taken once, if it was said at all.
    """

    frequency: float = 0.0
    presence: float = 0.0

    def __call__(self, texts: Sequence[Prefix], scores: Tensor) -> Tensor:
        less = torch.zeros_like(scores)
        for row, text in zip(less, texts, strict=True):
            for i, n in Counter(text.said).items():
                row[i] = self.presence + n * self.frequency
        return scores - less


@dataclass(frozen=True)
class NoRepeat:
    """No `n` ids in a row stand twice in the text, the prompt too (Paulus et al. 2018, section 2.5)."""

    n: int = 3

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n must be at least 1, is {self.n}")

    def __call__(self, texts: Sequence[Prefix], scores: Tensor) -> Tensor:
        return _without(scores, [self._repeats(text.ids) for text in texts])

    def _repeats(self, ids: list[int]) -> list[int]:
        last = ids[len(ids) - self.n + 1 :]
        return [ids[i] for i in range(self.n - 1, len(ids)) if ids[i - self.n + 1 : i] == last]


@dataclass(frozen=True)
class Suppress:
    """These ids are never said.

    Attributes:
        first: they are free again after so many ids of the text; None is never.
    """

    ids: tuple[int, ...]
    first: int | None = None

    def __call__(self, texts: Sequence[Prefix], scores: Tensor) -> Tensor:
        ids = list(self.ids)
        return _without(scores, [ids if self.first is None or len(t.said) < self.first else [] for t in texts])


@dataclass(frozen=True)
class Never:
    """None of these sequences of ids is said; what the prompt says may be part of one."""

    sequences: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not all(self.sequences):
            raise ValueError("a sequence of no ids cannot be avoided")

    def __call__(self, texts: Sequence[Prefix], scores: Tensor) -> Tensor:
        return _without(scores, [self._ends(text.ids) for text in texts])

    def _ends(self, ids: list[int]) -> list[int]:
        return [s[-1] for s in self.sequences if tuple(ids[len(ids) - len(s) + 1 :]) == s[:-1]]


@dataclass(frozen=True)
class Forced:
    """The text begins with these ids."""

    ids: tuple[int, ...]

    def __call__(self, texts: Sequence[Prefix], scores: Tensor) -> Tensor:
        return only(scores, [self.ids[len(t.said) : len(t.said) + 1] or None for t in texts])


def only(scores: Tensor, allowed: Sequence[Sequence[int] | None]) -> Tensor:
    """The scores [B, V] of each row's allowed ids, -inf for the others; None allows all."""
    shut = torch.zeros_like(scores, dtype=torch.bool)
    for row, ids in zip(shut, allowed, strict=True):
        if ids is not None:
            row[:] = True
            row[list(ids)] = False
    return scores.masked_fill(shut, -torch.inf)


def _without(scores: Tensor, forbidden: Sequence[Sequence[int]]) -> Tensor:
    shut = torch.zeros_like(scores, dtype=torch.bool)
    for row, ids in zip(shut, forbidden, strict=True):
        row[list(ids)] = True
    return scores.masked_fill(shut, -torch.inf)
