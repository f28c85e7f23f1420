"""Voxel grids, farthest points, neighbours and mesh sampling against brute force and statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.modalities.pointcloud.sampling import (
    VoxelGrid,
    farthest_points,
    nearest_neighbours,
    sample_mesh,
    voxel_grid,
)

SEEDS = st.integers(0, 2**32)


def cloud(seed: int, p: int, f: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 10 ** rng.uniform(-2, 3), (p, f)).astype(np.float32)
    return points[rng.integers(0, p, p)] if seed % 3 == 0 and p else points  # sometimes with repeats


def brute_grid(points: np.ndarray, size: float) -> dict[tuple[int, ...], np.ndarray]:
    voxels: dict[tuple[int, ...], list[np.ndarray]] = {}
    for point in points:
        voxels.setdefault(tuple(math.floor(float(c) / size) for c in point[:3]), []).append(point.astype(np.float64))
    return {k: np.mean(v, 0) for k, v in sorted(voxels.items())}


@given(SEEDS, st.integers(1, 200), st.integers(3, 11), st.floats(1e-3, 1e4))
def test_a_voxel_is_the_mean_of_its_points(seed, p, f, size):
    points = cloud(seed, p, f)
    want = brute_grid(points, size)
    got = voxel_grid(torch.from_numpy(points), size)
    np.testing.assert_allclose(got, np.stack(list(want.values())), rtol=1e-5, atol=1e-4)


@given(SEEDS, st.integers(1, 300), st.lists(st.integers(0, 300), max_size=5), st.floats(1e-2, 1e2))
def test_a_cloud_in_pieces_has_the_same_grid(seed, p, cuts, size):
    points = cloud(seed, p, 5)
    grid = VoxelGrid(size)
    for piece in np.split(points, sorted(min(c, p) for c in cuts)):
        grid.add(piece)
    np.testing.assert_allclose(grid.points(), voxel_grid(torch.from_numpy(points), size), rtol=1e-6, atol=1e-5)


@given(SEEDS, st.integers(1, 300), st.integers(1, 50))
def test_a_bounded_grid_is_the_grid_of_its_final_size(seed, p, most):
    points = cloud(seed, p)
    grid = VoxelGrid(1e-3, max_voxels=most)
    for piece in np.array_split(points, 4):
        grid.add(piece)
    got = grid.points()
    assert len(got) <= max(most, 8)  # around the origin eight cubes meet, whatever their size
    np.testing.assert_allclose(got, voxel_grid(torch.from_numpy(points), grid.size), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e-9, 1e9])
def test_a_grid_cannot_overflow(size):
    points = torch.tensor([[1e8, -1e8, 0.0], [-1e8, 1e8, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]) * 0.99
    got = voxel_grid(points, size)
    assert torch.isfinite(got).all()
    if size < 1:
        torch.testing.assert_close(got, points[[1, 2, 0]])


@pytest.mark.parametrize("size", [0.0, -1.0, math.nan, math.inf])
def test_a_voxel_has_a_size(size):
    with pytest.raises(ValueError, match="positive"):
        voxel_grid(torch.zeros(1, 3), size)


@given(SEEDS, st.integers(1, 60), st.integers(1, 80), st.integers(1, 3))
def test_farthest_points_are_brute_force(seed, p, n, batch):
    xyz = np.stack([cloud(seed + b, p) for b in range(batch)])
    got = farthest_points(torch.from_numpy(xyz), n)
    assert got.shape == (batch, n)
    for b in range(batch):
        d = ((xyz[b, :, None].astype(np.float64) - xyz[b, None]) ** 2).sum(-1)
        chosen = got[b].tolist()
        assert chosen[0] == 0
        for i in range(1, n):  # each is, but for rounding, as far from those before it as any point is
            to_chosen = d[:, chosen[:i]].min(1)
            assert to_chosen[chosen[i]] >= to_chosen.max() * (1 - 1e-5)
    assert torch.equal(got[0], farthest_points(torch.from_numpy(xyz[0]), n))


@given(SEEDS, st.integers(1, 60), st.integers(1, 40), st.integers(1, 8))
def test_neighbours_are_brute_force(seed, p, n, k):
    k = min(k, p)
    xyz, centres = cloud(seed, p), cloud(seed + 1, n)
    got = nearest_neighbours(torch.from_numpy(xyz), torch.from_numpy(centres), k)
    d = np.linalg.norm(centres[:, None].astype(np.float64) - xyz[None], axis=2)
    np.testing.assert_allclose(np.take_along_axis(d, got.numpy(), 1), np.sort(d, 1)[:, :k], rtol=1e-4, atol=1e-6)


def test_mesh_points_fall_in_proportion_to_area():
    rng = np.random.default_rng(0)
    points = torch.zeros(40 * 3, 11)  # forty triangles, no two in a plane, of very different areas
    points[:, :3] = torch.from_numpy(rng.normal(size=(40, 3, 3)) * rng.uniform(0.1, 3, (40, 1, 1))).reshape(-1, 3)
    points[:, 3:6] = torch.from_numpy(rng.uniform(0, 1, (40, 1, 3))).expand(-1, 3, -1).reshape(-1, 3)
    faces = torch.arange(120).view(40, 3)
    corners = points[:, :3].double()[faces]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = normal.norm(dim=1)
    n = 20_000
    sampled = sample_mesh(points, faces, n, seed=1)
    assert sampled.shape == (n, 11)
    triangle = torch.cdist(sampled[:, 3:6], points[faces[:, 0], 3:6]).argmin(1)  # known by its colour
    distance = ((sampled[:, :3] - corners[triangle, 0]) * normal[triangle]).sum(1) / area[triangle]
    assert distance.abs().max() < 1e-4
    torch.testing.assert_close(sampled[:, 6:9].double(), (normal / area[:, None])[triangle], rtol=0, atol=1e-4)
    want = n * area / area.sum()
    chi2 = ((torch.bincount(triangle, minlength=40) - want) ** 2 / want).sum()
    assert chi2 < 72.1  # 99.9% of chi-square with 39 degrees of freedom
    torch.testing.assert_close(sampled, sample_mesh(points, faces, n, seed=1))


def test_a_mesh_without_area_gives_its_vertices():
    points = torch.ones(3, 11)
    assert torch.equal(sample_mesh(points, torch.tensor([[0, 1, 2]]), 100), points)
