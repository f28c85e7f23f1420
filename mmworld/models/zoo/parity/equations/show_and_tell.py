"""Show and Tell (Vinyals et al. 2015), equations 4 to 12."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmworld.models.zoo.parity.case import Pairs
from mmworld.models.zoo.show_and_tell import ShowAndTell

VISION = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1]}
SOURCE = {"model_type": "show_and_tell", "vision_config": VISION, "vocab_size": 20, "dim": 12, "width": 10}


def tiny() -> ShowAndTell:
    """A model of random weights, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return ShowAndTell(SOURCE).double().eval()


def scores(model: ShowAndTell, pixels: Tensor, ids: Sequence[int]) -> Tensor:
    """log p(S_t | I, S_0 .. S_t-1) up to a constant [T, V], for one picture [1, C, H, W], gate by gate."""
    cell: Any = model.decoder.layers[0]
    wx, wm, b = (w.chunk(4) for w in (cell.x.weight, cell.m.weight, cell.x.bias))
    image = model.picture.weight @ model.vision.pool(model.vision(pixels))[0] + model.picture.bias
    m = c = torch.zeros(model.config.width, dtype=torch.float64)
    told = []
    for x in (image, *(model.words.weight[i] for i in ids)):
        i, f, g, o = (wx[k] @ x + wm[k] @ m + b[k] for k in range(4))
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        m = torch.sigmoid(o) * torch.tanh(c)
        told.append(model.head.weight @ m + model.head.bias)
    return torch.stack(told[1:])


def compare() -> Pairs:
    """Of two pictures and their captions."""
    model, pixels = tiny(), torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[1, 7, 9, 4], [1, 3, 3, 8]])
    got = model(ids, model.show(pixels))
    for k in range(2):
        yield got[k], scores(model, pixels[k : k + 1], ids[k].tolist())
