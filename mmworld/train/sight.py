"""The map from what is seen to what is told of it: a memory finds with it what nothing was told of."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmworld.models.world import World
from mmworld.render import Rendered
from mmworld.train.sources import Draw

DRAWN, TOGETHER = 250, 25
"""Items of each source, and how many are encoded at once."""
RIDGE = 1.0


@torch.no_grad()
def fit(world: World, draws: Iterable[Draw], n: int = DRAWN, seed: int = 0) -> Tensor:
    """Ridge regression (Hoerl & Kennard 1970) of the meanings of captions on the mean token of what they are of.

    Tokens are as the backbone takes them. That their mean tells a caption's words is what `Words` trained them to.

    Returns:
        float32 [D + 1, D], the last row what is added; see `World.sense`.
    """
    seen, told = [], []
    for draw in draws:
        for first in range(0, n, TOGETHER):
            items = [draw(np.random.default_rng((seed, i))) for i in range(first, min(first + TOGETHER, n))]
            packed = world.pack([i.chunks for i in items], [()] * len(items))
            seen += [x.double().mean(0).cpu() for x in packed.x.split(packed.lengths)]
            told += [_meaning(world, item) for item in items]
    x = F.pad(torch.stack(seen), (0, 1), value=1.0)
    less = RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    less[-1, -1] = 0.0
    return torch.linalg.solve(x.mT @ x + less, x.mT @ torch.stack(told)).float()


def _meaning(world: World, item: Rendered) -> Tensor:
    return torch.stack([world.meaning(text).double().cpu() for text in item.captions]).mean(0)
