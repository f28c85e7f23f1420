"""Grounding of phrases in clouds, after 3DETR (Misra et al. 2021) and BUTD-DETR (Jain et al. 2022), token by token."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mmworld.modalities.pointcloud.pointnet2 import single
from mmworld.models.zoo.grounding3d import WAVES, Grounder, GroundingConfig
from mmworld.models.zoo.parity.case import Pairs
from mmworld.models.zoo.parity.equations.pointbert import attended, gelu, linear, normed, shaken
from mmworld.models.zoo.parity.equations.pointnet2 import abstraction

TEXT: dict[str, Any] = {"model_type": "bert", "vocab_size": 20, "hidden_size": 12, "num_hidden_layers": 1}
TEXT |= {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 8}
SIZES = GroundingConfig(TEXT, (single(8, 0.5, 4, 9, 8), single(6, 0.8, 3, 10)), 3, 16, 2, 2, 2, 4)


def tiny() -> Grounder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        model: Grounder = shaken(Grounder(SIZES))
        return model


def looked(cross: Any, x: list[Tensor], context: list[Tensor]) -> list[Tensor]:
    """Each token over all of the context."""
    width, out = cross.head_dim, []
    rows = [linear(cross.kv, t).view(2, -1, width) for t in context]
    for t in x:
        found = []
        for h, q in enumerate(linear(cross.q, t).view(-1, width)):
            logits = torch.stack([q @ k[h] / math.sqrt(width) for k, _ in rows])
            weights: Any = logits.exp() / logits.exp().sum()
            found.append(sum(w * v[h] for w, (_, v) in zip(weights, rows, strict=True)))
        out.append(linear(cross.out, torch.cat(found)))
    return out


def transformed(net: Any, x: list[Tensor], context: list[Tensor]) -> list[Tensor]:
    """Pre-norm layers, with attention to the context where there is any."""
    for layer in net.layers:
        seen = attended(layer.attention, [normed(layer.norm_attention, t) for t in x])
        x = [a + b for a, b in zip(x, seen, strict=True)]
        if context:
            seen = looked(layer.cross, [normed(layer.norm_cross, t) for t in x], context)
            x = [a + b for a, b in zip(x, seen, strict=True)]
        fed = [linear(layer.feed.down, gelu(linear(layer.feed.up, normed(layer.norm_feed, t)))) for t in x]
        x = [a + b for a, b in zip(x, fed, strict=True)]
    return [normed(net.norm, t) for t in x]


def placed(p: Tensor) -> Tensor:
    """A place beside its waves."""
    turns = [2 * math.pi * f * c for f in WAVES for c in p.tolist()]
    waves = [math.sin(t) for t in turns] + [math.cos(t) for t in turns]
    return torch.cat((p, torch.tensor(waves, dtype=p.dtype)))


def box(model: Grounder, query: Tensor, at: Tensor, seen: list[Tensor], centres: Tensor) -> Tensor:
    """A query's box: from where it points at, beside its own place."""
    asks, steep = linear(model.point, query), float(model.nearness.exp())
    pairs = zip(seen, centres, strict=True)
    weights = [math.exp(asks @ t / math.sqrt(len(t)) - (steep * math.dist(at, c)) ** 2) for t, c in pairs]
    middle: Any = sum(w * c for w, c in zip(weights, centres, strict=True)) / sum(weights)
    told = linear(model.box[2], linear(model.box[0], query).clamp_min(0))
    yaw = torch.atan2(told[6], told[7]) / 2
    return torch.cat((middle + told[:3], told[3:6].exp(), yaw[None]))


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def grounded(model: Grounder, points: Tensor, phrases: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Boxes and the scores of phrases, of one cloud [P, 6]."""
    middle = points[:, :3].mean(0)
    xyz, x = points[:, :3] - middle, list(points[:, 3:])
    for down in model.down:
        xyz, x = abstraction(down, xyz, x)
    seen = [linear(model.seen, f) + linear(model.place, placed(p)) for p, f in zip(xyz, x, strict=True)]
    words = [linear(model.told, t) for p in phrases for t in model.text(torch.tensor([p]))[0]]
    row = transformed(model.encoder, seen + words, [])
    seen, words = row[: len(seen)], row[len(seen) :]
    queries = transformed(model.decoder, seen[: SIZES.queries], row)
    boxes = [box(model, q, at, seen, xyz) for q, at in zip(queries, xyz, strict=False)]
    ends, left = [], iter(words)
    for p in phrases:
        ends.append(linear(model.phrase, torch.stack([next(left) for _ in p]).mean(0)))
    ends.append(model.none)
    sharp = float(model.sharpness.exp())
    scores = [[sharp * cosine(linear(model.query, q), e) for e in ends] for q in queries]
    moved = torch.stack(boxes)
    moved[:, :3] += middle
    return moved, torch.tensor(scores, dtype=points.dtype)


def compare() -> Pairs:
    """Of two clouds with other phrases each."""
    model, draw = tiny(), torch.Generator().manual_seed(1)
    points = torch.rand(2, 20, 6, dtype=torch.float64, generator=draw)
    phrases = [[[3, 4], [5], [6, 7, 8]], [[9, 4]]]
    found = model(points, [model.read(p) for p in phrases])
    for got, cloud, told in zip(found, points, phrases, strict=True):
        yield from zip((got.boxes, got.logits), grounded(model, cloud, told), strict=True)
