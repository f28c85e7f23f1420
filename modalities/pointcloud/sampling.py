"""Fewer points, chosen well: voxel grids, farthest points, nearest neighbours, and points from a mesh's surface."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MERGE = 1 << 20  # voxels that may wait before they are merged
_CDIST = 1 << 22  # distances held at once


def _key(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """One integer a row of [P, 3], ordered as the rows are. Axes too wide to pack are ranked first: no overflow."""
    key = np.zeros(len(index), np.int64)
    for axis in index.T:
        axis = axis - axis.min()
        if (int(key.max()) + 1) * (int(axis.max()) + 1) > 1 << 62:
            key, axis = (np.unique(v, return_inverse=True)[1] for v in (key, axis))
        key = key * (axis.max() + 1) + axis
    return key


def _group(index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows of [P, 3] in order, and which of them each row is."""
    key = _key(index)
    order = np.argsort(key)
    key = key[order]
    first = np.concatenate([[True], key[1:] != key[:-1]])
    group = np.empty(len(key), np.int64)
    group[order] = np.cumsum(first) - 1
    return index[order[first]], group


def _sum(values: NDArray[np.floating], group: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Sums of the rows of each group; a column of zeros costs nothing."""
    total = np.zeros((n, values.shape[1]))
    for i, column in enumerate(values.T):
        if column.any():
            total[:, i] = np.bincount(group, column, n)
    return total


class VoxelGrid:
    """Means of points over cubes [i * size, (i + 1) * size) of space, for a cloud that arrives in pieces.

    With `max_voxels`, the edge doubles whenever more cubes are occupied: the result is that of a grid of the
    final `size` over all the points.
    """

    def __init__(self, size: float, max_voxels: int | None = None) -> None:
        if not (math.isfinite(size) and size > 0):
            raise ValueError(f"the voxel size must be positive, got {size}")
        self.size = size
        self.max_voxels = max_voxels
        # (index int64 [V, 3], sum float64 [V, F], count int64 [V]): the merged grid, then what waits to be merged
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]] = []

    def add(self, points: NDArray[np.float32]) -> None:
        """Points [P, 3 + F]; coordinates must be finite."""
        if len(points) == 0:
            return
        index = np.floor(points[:, :3].astype(np.float64) / self.size)
        index = np.clip(index, -(2.0**61), 2.0**61).astype(np.int64)  # float64 tells no such voxels apart
        index, group = _group(index)
        self._parts.append((index, _sum(points, group, len(index)), np.bincount(group)))
        if sum(len(p[0]) for p in self._parts[1:]) > max(_MERGE, len(self._parts[0][0]) // 2):
            self._merge()

    def _merge(self) -> None:
        index, total, count = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        self._parts.clear()
        while True:
            index, group = _group(index)
            total = _sum(total, group, len(index))
            count = np.bincount(group, count).astype(np.int64)
            if self.max_voxels is None or len(index) <= max(self.max_voxels, 8):  # 8 cubes meet at the origin
                break
            self.size *= 2
            index >>= 1  # floor(i / 2): the cube twice as wide that holds cube i
        self._parts.append((index, total, count))

    def points(self) -> NDArray[np.float32]:
        """[V, 3 + F]: the mean of each occupied voxel, ordered by voxel (x, then y, then z)."""
        if not self._parts:
            raise ValueError("no points were added")
        self._merge()
        _, total, count = self._parts[0]
        return (total / count[:, None]).astype(np.float32)


def voxel_grid(points: Tensor, size: float) -> Tensor:
    """The mean of the points in each occupied cube of edge `size` metres.

    Args:
        points: float32 [P, 3 + F], finite, on the CPU.

    Returns:
        float32 [V, 3 + F], V <= P, ordered by voxel.
    """
    if len(points) == 0:
        return points
    grid = VoxelGrid(size)
    grid.add(points.numpy())
    return torch.from_numpy(grid.points())


def farthest_points(xyz: Tensor, n: int) -> Tensor:
    """Indices of `n` points, each the farthest from those before it (Eldar et al. 1997; PointNet++ section 3.2).

    Begins at point 0 and takes the first of equals, so it is deterministic. Past the P distinct points it repeats
    some.

    Args:
        xyz: [..., P, 3], P >= 1.

    Returns:
        int64 [..., n].
    """
    *batch, p, _ = xyz.shape
    x = xyz.detach().reshape(-1, p, 3).permute(2, 0, 1).contiguous()  # [3, B, P]: each coordinate contiguous
    rows = torch.arange(x.shape[1], device=x.device)
    chosen = torch.zeros(x.shape[1], n, dtype=torch.int64, device=x.device)
    nearest = torch.full(x.shape[1:], torch.inf, dtype=x.dtype, device=x.device)
    square = torch.empty_like(x)
    for i in range(1, n):
        torch.sub(x, x[:, rows, chosen[:, i - 1], None], out=square).square_()
        torch.minimum(nearest, square[0].add_(square[1]).add_(square[2]), out=nearest)
        chosen[:, i] = _argmax(nearest)
    return chosen.view(*batch, n)


def _argmax(x: Tensor) -> Tensor:
    """Along the last axis, the first of equals; numpy is a hundred times faster at it than torch on a CPU."""
    return torch.from_numpy(x.numpy().argmax(-1)) if x.device.type == "cpu" else x.argmax(-1)


def nearest_neighbours(xyz: Tensor, centres: Tensor, k: int) -> Tensor:
    """Indices of the `k` points nearest to each centre, nearest first.

    Args:
        xyz: [..., P, 3], P >= k.
        centres: [..., N, 3].

    Returns:
        int64 [..., N, k].
    """
    p = max(1, xyz.shape[-2] * math.prod(xyz.shape[:-2]))
    pieces = centres.split(max(1, _CDIST // p), dim=-2)
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(c, xyz, compute_mode=exact).topk(k, largest=False)[1] for c in pieces], dim=-2)


def ball_query(xyz: Tensor, centres: Tensor, radius: float, k: int) -> Tensor:
    """Indices of `k` points around each centre: the first within `radius`, in their order, then the first of them again
    (PointNet++ section 3.2).

    A centre without a point in its ball has the points nearest to it.

    Args:
        xyz: [..., P, 3], P >= 1.
        centres: [..., N, 3].

    Returns:
        int64 [..., N, k].
    """
    rows = max(1, _CDIST // max(1, xyz.shape[-2] * math.prod(xyz.shape[:-2])))
    return torch.cat([_in_balls(xyz, c, radius, k) for c in centres.split(rows, dim=-2)], dim=-2)


def _in_balls(xyz: Tensor, centres: Tensor, radius: float, k: int) -> Tensor:
    p = xyz.shape[-2]
    square = (centres[..., :, None, :] - xyz[..., None, :, :]).square().sum(-1)
    inside = square <= square.amin(-1, keepdim=True).clamp_min(radius**2)
    order = torch.where(inside, torch.arange(p, device=xyz.device), p)
    found = order.topk(min(k, p), largest=False)[0].sort(-1)[0]
    found = torch.where(found < p, found, found[..., :1])
    return torch.cat((found, found[..., :1].expand(*found.shape[:-1], k - found.shape[-1])), dim=-1)


def take(x: Tensor, index: Tensor) -> Tensor:
    """The rows of x [B, P, C] at index [B, ...] of each cloud: [B, ..., C]."""
    return torch.stack([cloud[i] for cloud, i in zip(x, index, strict=True)])


def some_of(points: Tensor, n: int) -> Tensor:
    """At most n of points [P, ...], drawn evenly and each time alike."""
    if len(points) <= n:
        return points
    return points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:n].to(points.device)]


def sample_mesh(points: Tensor, faces: Tensor, n: int, *, seed: int = 0) -> Tensor:
    """`n` points spread over a mesh in proportion to area, with their triangle's normal and blended colours.

    Args:
        points: float32 [P, 11], the vertices of a `Cloud`.
        faces: int64 [F, 3].

    Returns:
        float32 [n, 11]; the vertices themselves if the mesh has no area.
    """
    import open3d as o3d

    corners = points[:, :3].double()[faces]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    if n == 0 or not area.sum() > 0:
        return points
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(points[:, :3].double().numpy()),
        o3d.utility.Vector3iVector(faces[area > 0].int().numpy()),
    )
    mesh.vertex_colors = o3d.utility.Vector3dVector(points[:, 3:6].double().numpy())
    o3d.utility.random.seed(seed)
    cloud = mesh.sample_points_uniformly(n, use_triangle_normal=True)
    sampled = torch.zeros(n, points.shape[1])
    for start, values in ((0, cloud.points), (3, cloud.colors), (6, cloud.normals)):
        sampled[:, start : start + 3] = torch.from_numpy(np.asarray(values, np.float32))
    return sampled
