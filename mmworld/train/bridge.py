"""Training of what a composed model has that is new, by examples of what it is to say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from mmworld.errors import UsageError
from mmworld.models.message import Message
from mmworld.models.zoo.composed import Composed

Example = Sequence[Message]
"""A conversation whose last message is the assistant's, which is learned."""


@dataclass(frozen=True)
class Fit:
    """How long and how fast.

    Attributes:
        steps: of the optimiser.
        batch: conversations a step, packed in one row.
        lr: of AdamW at its highest; it warms up over a tenth of the steps and falls to a tenth as a cosine does.
        clip: largest norm of the gradients.
    """

    steps: int = 1000
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.0
    clip: float = 1.0

    def rate(self, step: int) -> float:
        """Of the highest, at a step."""
        warm = max(1, self.steps // 10)
        if step < warm:
            return (step + 1) / warm
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


def fit(
    model: Composed,
    examples: Iterable[Example],
    how: Fit = Fit(),
) -> Iterator[float]:
    """Train what `model.freeze` left to be trained, and give the loss of each step as it is made.

    Args:
        examples: as many as steps times batch, or fewer: then training ends with them.

    Raises:
        UsageError: nothing is left to be trained.
        RuntimeError: the loss is no longer finite; the model is as it was before that step.
    """
    learned = [p for p in model.parameters() if p.requires_grad]
    if not learned:
        raise UsageError("all of the model is frozen", hint="model.freeze() leaves the bridges to be trained")
    optimizer = torch.optim.AdamW(learned, how.lr, weight_decay=how.weight_decay)
    left = iter(examples)
    model.train()
    try:
        for step in range(how.steps):
            if not (some := list(islice(left, how.batch))):
                return
            yield _step(model, some, optimizer, learned, how, step)
    finally:
        model.eval()


def _step(
    model: Composed,
    examples: Sequence[Example],
    optimizer: torch.optim.Optimizer,
    learned: Sequence[torch.nn.Parameter],
    how: Fit,
    step: int,
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = how.lr * how.rate(step)
    with torch.enable_grad():
        loss = model(examples)
    if not bool(loss.isfinite()):
        raise RuntimeError(f"step {step}: the loss is {float(loss)}; a lower lr may help")
    loss.backward()
    torch.nn.utils.clip_grad_norm_(learned, how.clip)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())
