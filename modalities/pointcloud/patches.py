"""Point patches: neighbours around far-apart centres, and a small PointNet that makes a token of each (Yu et al. 2022,
Point-BERT, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmworld.modalities.pointcloud.sampling import farthest_points, nearest_neighbours, take
from mmworld.weights.keymap import Place
from mmworld.weights.names import batch_norm


def group(points: Tensor, n: int, k: int) -> tuple[Tensor, Tensor]:
    """Points [B, P, 3 + F] to n patches of k neighbours [B, n, k, 3 + F], places relative to centres [B, n, 3].

    Raises:
        ValueError: there are fewer than k points.
    """
    if points.shape[1] < k:
        raise ValueError(f"{points.shape[1]} points, a patch has {k}")
    xyz = points[..., :3]
    centres = take(xyz, farthest_points(xyz, n))
    near = take(points, nearest_neighbours(xyz, centres, k))
    return torch.cat((near[..., :3] - centres[:, :, None], near[..., 3:]), dim=-1), centres


class MiniPointNet(nn.Module):
    """A patch to what is largest of its points, twice (Qi et al. 2017, PointNet, section 4.2).

    Args:
        c_in: numbers of a point.
        dim: width of a patch's token.
    """

    def __init__(self, c_in: int, dim: int) -> None:
        super().__init__()
        self.first, self.second = _unit(c_in, 128, 256), _unit(512, 512, dim)

    def forward(self, near: Tensor) -> Tensor:
        """Patches [B, N, K, C] to [B, N, D]."""
        x = self.first(near.flatten(0, 1).mT)
        x = torch.cat((x.amax(2, keepdim=True).expand_as(x), x), dim=1)
        return self.second(x).amax(2).unflatten(0, near.shape[:2])


def _unit(c_in: int, hidden: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(c_in, hidden, 1), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Conv1d(hidden, c_out, 1)
    )


def patch_names(ours: str, theirs: str) -> dict[str, Place]:
    """The names of a MiniPointNet."""
    table = dict[str, Place]()
    for part in ("first", "second"):
        mine, other = f"{ours}.{part}", f"{theirs}.{part}_conv"
        table |= {f"{mine}.{i}.*": f"{other}.{i}.*" for i in (0, 3)} | batch_norm(f"{mine}.1", f"{other}.1")
    return table
