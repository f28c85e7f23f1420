"""Oriented boxes [..., 7]: centre x y z, length, width, height (metres), and yaw, the turn upon it (radians)."""

from __future__ import annotations

import torch
from torch import Tensor

_EPS = 1e-9


def turned(xy: Tensor, yaw: Tensor) -> Tensor:
    """xy [..., 2] turned about the origin by yaw [...], anticlockwise."""
    (x, y), cos, sin = xy.unbind(-1), yaw.cos(), yaw.sin()
    return torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1)


def inside(boxes: Tensor, xyz: Tensor) -> Tensor:
    """Which of the points [P, 3] lie in each box [N, 7]: bool [N, P]."""
    away = xyz - boxes[:, None, :3]
    flat = turned(away[..., :2], -boxes[:, None, 6])
    return (torch.cat((flat, away[..., 2:]), dim=-1).abs() <= boxes[:, None, 3:6] / 2).all(-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """What each of boxes [N, 7] and [M, 7] have in common, of what they fill together: float64 [N, M]."""
    a, b = a.double(), b.double()
    low = torch.maximum((a[:, 2] - a[:, 5] / 2)[:, None], b[:, 2] - b[:, 5] / 2)
    high = torch.minimum((a[:, 2] + a[:, 5] / 2)[:, None], b[:, 2] + b[:, 5] / 2)
    common = _feet(a, b) * (high - low).clamp_min(0)
    volumes = (x[:, 3:6].prod(1) for x in (a, b))
    return common / (next(volumes)[:, None] + next(volumes) - common).clamp_min(1e-12)


def _feet(a: Tensor, b: Tensor) -> Tensor:
    """Areas that their feet have in common [N, M]: of a polygon whose corners are those of either that lie in the
    other, and where their sides cross."""
    p, q = (_corners(x) for x in (a, b))
    n, m = len(a), len(b)
    p, q = p[:, None].expand(n, m, 4, 2), q.expand(n, m, 4, 2)
    crossed, there = _crossings(p, q)
    points = torch.cat((p, q, crossed), dim=2)
    real = torch.cat((_covers(b[None], p), _covers(a[:, None], q), there), dim=2)
    first = points.gather(2, real.int().argmax(2)[..., None, None].expand(n, m, 1, 2))
    points = torch.where(real[..., None], points, first)  # a corner that is none counts as one that is
    middle = (points * real[..., None]).sum(2, keepdim=True) / real.sum(2).clamp_min(1)[..., None, None]
    x, y = (points - middle).unbind(-1)
    order = torch.atan2(y, x).argsort(-1)
    x, y = x.gather(2, order), y.gather(2, order)
    area = (x * y.roll(-1, 2) - y * x.roll(-1, 2)).sum(2).abs() / 2
    return torch.where(real.sum(2) > 2, area, 0.0)


def _corners(boxes: Tensor) -> Tensor:
    """Of their feet [N, 4, 2], anticlockwise."""
    signs = boxes.new_tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    return boxes[:, None, :2] + turned(signs * boxes[:, None, 3:5] / 2, boxes[:, None, 6])


def _covers(boxes: Tensor, points: Tensor) -> Tensor:
    """Which of points [N, M, 4, 2] lie over the foot of boxes [N or 1, M or 1, 7]."""
    away = turned(points - boxes[..., None, :2], -boxes[..., None, 6])
    return (away.abs() <= boxes[..., None, 3:5] / 2 + _EPS).all(-1)


def _crossings(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Where sides of polygons [N, M, 4, 2] cross, [N, M, 16, 2], and whether they do."""
    r, s = (x.roll(-1, 2) - x for x in (p, q))
    p, r, q, s = p[:, :, :, None], r[:, :, :, None], q[:, :, None], s[:, :, None]
    slope = _cross(r, s)
    t, u = (_cross(q - p, side) / torch.where(slope.abs() > _EPS, slope, torch.inf) for side in (s, r))
    there = (slope.abs() > _EPS) & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
    return (p + t[..., None] * r).flatten(2, 3), there.flatten(2, 3)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
