"""Oriented boxes: what two have in common against points thrown at random, half-spaces and clipped polygons."""

from __future__ import annotations

import math

import numpy as np
import open3d as o3d
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmworld.modalities.pointcloud.boxes import inside, iou
from mmworld.render.rooms import room

SEEDS = st.integers(0, 2**32)


def boxes(seed: int, n: int) -> Tensor:
    """Some of them the same, or turned by a right angle."""
    rng = np.random.default_rng(seed)
    found = np.column_stack((rng.normal(0, 0.6, (n, 3)), rng.uniform(0.3, 2.0, (n, 3)), rng.uniform(-4, 4, n)))
    found[rng.random(n) < 0.2, 6] = rng.choice([0, math.pi / 2, math.pi])
    return torch.from_numpy(found[rng.integers(0, n, n)])


def clipped(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> float:
    """The area that convex polygons have in common: one cut by each side of the other (Sutherland & Hodgman 1974)."""
    for (x0, y0), (x1, y1) in zip(b, b[1:] + b[:1], strict=True):
        kept, left = [], [(x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) for x, y in a]
        for i, (p, d) in enumerate(zip(a, left, strict=True)):
            q, e = a[(i + 1) % len(a)], left[(i + 1) % len(a)]
            kept += [p] if d >= 0 else []
            if d * e < 0:
                t = d / (d - e)
                kept.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
        a = kept
    return abs(sum(p[0] * q[1] - p[1] * q[0] for p, q in zip(a, a[1:] + a[:1], strict=True))) / 2


def foot(box: list[float]) -> list[tuple[float, float]]:
    x, y, _, length, width, _, yaw = box
    ends = [(length / 2, width / 2), (-length / 2, width / 2), (-length / 2, -width / 2), (length / 2, -width / 2)]
    cos, sin = math.cos(yaw), math.sin(yaw)
    return [(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in ends]


@given(SEEDS, st.integers(1, 6), st.integers(1, 6))
def test_what_boxes_have_in_common_is_what_clipping_leaves(seed: int, n: int, m: int) -> None:
    a, b = boxes(seed, n), boxes(seed + 1, m)
    b[0] = a[0]
    got = iou(a, b)
    assert abs(float(got[0, 0]) - 1) < 1e-9
    for i, p in enumerate(a.tolist()):
        for j, q in enumerate(b.tolist()):
            high, low = min(p[2] + p[5] / 2, q[2] + q[5] / 2), max(p[2] - p[5] / 2, q[2] - q[5] / 2)
            common = clipped(foot(p), foot(q)) * max(0.0, high - low)
            want = common / (math.prod(p[3:6]) + math.prod(q[3:6]) - common)
            assert abs(float(got[i, j]) - want) < 1e-7
    torch.testing.assert_close(iou(b, a), got.T)


@given(SEEDS)
def test_what_boxes_have_in_common_is_where_points_fall(seed: int) -> None:
    a, b = boxes(seed, 3), boxes(seed + 1, 3)
    thrown = 8 * torch.rand(40_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 4
    p, q = inside(a, thrown)[:, None], inside(b, thrown)
    either = (p | q).sum(-1)
    spread = 5 / either.double().sqrt().clamp_min(1)  # of a share of so many points: five standard deviations at most
    assert bool(((iou(a, b) - (p & q).sum(-1) / either.clamp_min(1)).abs() <= spread).all())


@given(SEEDS)
def test_points_inside_are_open3d_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    box, points = boxes(seed, 1), rng.normal(size=(200, 3))
    turn = o3d.geometry.get_rotation_matrix_from_axis_angle(np.array([0, 0, float(box[0, 6])]))
    theirs = o3d.geometry.OrientedBoundingBox(box[0, :3].numpy(), turn, box[0, 3:6].numpy())
    want = theirs.get_point_indices_within_bounding_box(o3d.utility.Vector3dVector(points))
    assert inside(box, torch.from_numpy(points))[0].nonzero()[:, 0].tolist() == sorted(want)


@given(SEEDS, st.integers(1, 5))
def test_the_things_of_a_room_fill_their_boxes_alone(seed: int, things: int) -> None:
    made = room(np.random.default_rng(seed), things=things, half=4.0)
    assert len(set(made.names)) == things == len(made.boxes)
    grown = made.boxes.clone()
    grown[:, 3:6] += 0.06  # the scanner's noise
    held = inside(grown, made.points[:, :3]).sum(1)
    assert bool((held >= 1024 // (things + 1)).all())
    assert float((iou(made.boxes, made.boxes) - torch.eye(things)).abs().max()) < 1e-6
    for box in made.boxes:  # no smaller one does
        shrunk = box.clone()
        shrunk[3:6] *= 0.8
        assert int(inside(shrunk[None], made.points[:, :3]).sum()) < 1024 // (things + 1)
