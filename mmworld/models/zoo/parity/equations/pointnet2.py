"""PointNet++ (Qi et al. 2017): section 3.2, figure 2 and equation 2, point by point."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mmworld.modalities.pointcloud.pointnet2 import PointNet2, PointNet2Config, several, single
from mmworld.models.zoo.parity.case import Pairs

TINY = {
    "single": PointNet2Config(
        5, (single(6, 0.5, 4, 8, 9), single(3, 0.9, 3, 10), single(0, 0.0, 0, 11, 12)), head=(7, 6)
    ),
    "several": PointNet2Config(
        5, (several(6, (0.3, 3, (8, 9)), (0.7, 5, (6,))), single(0, 0.0, 0, 12)), head=(7, 6), columns=3
    ),
    "parts": PointNet2Config(
        4,
        (several(6, (0.3, 3, (8, 9)), (0.7, 5, (6,))), single(4, 0.9, 3, 10), single(0, 0.0, 0, 12)),
        ((9, 8), (8, 7), (6,)),
        (7,),
        columns=3,
        placed=True,
        kinds=3,
    ),
    "room": PointNet2Config(4, (single(7, 0.5, 4, 8), single(4, 0.9, 3, 10)), ((9,), (8, 6)), (7,), 6, True),
}


def tiny(c: PointNet2Config) -> PointNet2:
    """A model of random weights and statistics, in float64."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        model = PointNet2(c).double().eval()
        for name, x in model.state_dict().items():
            if name.endswith(("running_mean", "running_var", "norm.bias")):
                x.add_(torch.rand_like(x))
        return model


def learned(steps: Iterable[Any], x: Tensor) -> Tensor:
    """What a network makes of one point [C]: linear layers, norms by the statistics of training, ReLU."""
    for step in steps:
        norm = step.norm
        x = step.linear.weight.flatten(1) @ x + step.linear.bias
        x = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
        x = x.clamp_min(0)
    return x


def farthest(xyz: Tensor, n: int) -> list[int]:
    """Each the farthest from those chosen, beginning with the first."""
    chosen = [0]
    while len(chosen) < n:
        away = [min(math.dist(p, xyz[c]) for c in chosen) for p in xyz.tolist()]
        chosen.append(away.index(max(away)))
    return chosen


def ball(xyz: Tensor, centre: Tensor, radius: float, k: int) -> list[int]:
    """The first k points in it, and the first again where there are fewer."""
    inside = [i for i, p in enumerate(xyz.tolist()) if math.dist(p, centre) <= radius][:k]
    return inside + inside[:1] * (k - len(inside))


def abstraction(down: Any, xyz: Tensor, x: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Centres [N, 3] and the features of each, of points [P, 3] and theirs."""
    c = down.config
    if not c.centres:
        every = [learned(down.branches[0], torch.cat((p, f))) for p, f in zip(xyz, x, strict=True)]
        return torch.zeros(1, 3, dtype=xyz.dtype), [torch.stack(every).amax(0)]
    centres, found = xyz[farthest(xyz, c.centres)], []
    for centre in centres:
        of_scales = []
        for scale, branch in zip(c.scales, down.branches, strict=True):
            seen = []
            for i in ball(xyz, centre, scale.radius, scale.neighbours):
                parts = (xyz[i] - centre, x[i]) if len(c.scales) == 1 else (x[i], xyz[i] - centre)
                seen.append(learned(branch, torch.cat(parts)))
            of_scales.append(torch.stack(seen).amax(0))
        found.append(torch.cat(of_scales))
    return centres, found


def propagated(unit: Any, xyz: Tensor, own: list[Tensor], centres: Tensor, x: list[Tensor]) -> list[Tensor]:
    """Equation 2 with k = 3 and p = 2, and a unit network."""
    out = []
    for p, mine in zip(xyz, own, strict=True):
        near = sorted((math.dist(p, c), j) for j, c in enumerate(centres))[:3]
        weights = [1 / (d**2 + 1e-8) for d, _ in near]
        came: Any = sum(w * x[j] for w, (_, j) in zip(weights, near, strict=True)) / sum(weights)
        out.append(learned(unit, torch.cat((mine, came))))
    return out


def scores(model: PointNet2, points: Tensor, kind: int) -> Tensor:
    """Of one cloud [P, 3 + columns]: [classes], or of its points [P, classes]."""
    c, xyz = model.config, points[:, :3]
    levels = [(xyz, list(points if c.placed else points[:, 3:]))]
    for down in model.down:
        levels.append(abstraction(down, *levels[-1]))
    ends = levels[-1][1]
    if c.up:
        one = torch.eye(c.kinds, dtype=points.dtype)[kind] if c.kinds else points[0, :0]
        first = [torch.cat((one, p[:3], p)) if c.kinds else p[:0] for p in points]
        for k, up in enumerate(model.up):
            fine, own = levels[-2 - k]
            ends = propagated(up.unit, fine, first if fine is xyz else own, levels[-1 - k][0], ends)
    weight, bias = (p.flatten(1) if p.ndim > 1 else p for p in model.scores.parameters())
    told = torch.stack([weight @ learned(model.head, x) + bias for x in ends])
    return told if c.up else told[0]


def compare() -> Pairs:
    """Of two clouds: classes with balls of one size and of several, parts of objects, a room's points."""
    draw = torch.Generator().manual_seed(1)
    for c in TINY.values():
        model, kinds = tiny(c), torch.tensor([2, 0])
        points = torch.rand(2, 20, 3 + c.columns, dtype=torch.float64, generator=draw)
        got = model(points, kinds if c.kinds else None)
        for k in range(2):
            yield got[k], scores(model, points[k], int(kinds[k]))
