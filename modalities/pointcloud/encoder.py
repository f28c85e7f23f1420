"""A point stem: a block's points are parted among far-apart centres, and each part becomes a token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmworld.modalities.pointcloud.blocks import PointBlocks
from mmworld.nn.segment import segment_max, segment_mean

FEATURES, CENTRE_FEATURES = 20, 8
LARGEST = 1e5
"""Metres; what lies farther is taken to lie there."""


class PointStem(nn.Module):
    """Points of blocks to at most `n_centres` tokens a block; one without points gives one token, that of nothing.

    Farthest-point sampling picks the centres, every point goes to its nearest, and the points of a part go through a
    shared network to their maximum and mean (PointNet, Qi et al. 2017; PointNet++, Qi et al. 2017, section 3.2).

    Args:
        dim: width D of a token.
        width: of the network over points.
        n_centres: tokens of a block.
        max_points: points of a block that are used, evenly spaced in their order.
    """

    def __init__(self, dim: int, width: int, n_centres: int, max_points: int) -> None:
        super().__init__()
        self.n_centres, self.max_points = n_centres, max_points
        self.point = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, 2 * width), nn.ReLU())
        self.token = nn.Sequential(nn.Linear(4 * width + CENTRE_FEATURES, dim), nn.GELU(), nn.Linear(dim, dim))
        self.nothing = nn.Parameter(torch.randn(dim) * 0.02)

    def forward(self, parts: Sequence[PointBlocks]) -> tuple[Tensor, tuple[int, ...]]:
        """Blocks of each stream to tokens [N, D]."""
        weight = self.nothing
        points, block, n = self._join(parts, weight.device)
        xyz = points[:, :3]
        centre, cell = part(xyz, block, n, self.n_centres)
        count = torch.bincount(cell, minlength=n * self.n_centres).float()
        seen, around = features(points, block, n, centre, cell, count)
        h = self.point(seen.to(weight.dtype))
        pooled = torch.cat((segment_max(h, cell, len(count)), segment_mean(h, cell, len(count))), dim=1)
        used = count > 0
        tokens = self.token(torch.cat((pooled, around.to(weight.dtype)), dim=1)[used])
        return self._with_nothing(tokens, used.unflatten(0, (n, -1)))

    def _join(self, parts: Sequence[PointBlocks], device: torch.device) -> tuple[Tensor, Tensor, int]:
        """Points with their phase [P, 12], at most max_points a block, and the block of each."""
        first = [0]
        for p in parts:
            first.append(first[-1] + p.n)
        block = torch.cat([p.block + f for p, f in zip(parts, first, strict=False)])
        points = torch.cat([torch.cat((p.points, p.phase[:, None]), dim=1) for p in parts])
        count = torch.bincount(block, minlength=first[-1])
        if len(block) and int(count.max()) > self.max_points:
            rank = torch.arange(len(block)) - (count.cumsum(0) - count)[block]
            place = (rank * self.max_points).div(count[block], rounding_mode="floor")
            before = ((rank - 1) * self.max_points).div(count[block], rounding_mode="floor")
            keep = (place != before) | (count[block] <= self.max_points)
            points, block = points[keep], block[keep]
        points = points.nan_to_num().clamp(-LARGEST, LARGEST)
        return points.to(device, torch.float32), block.to(device), first[-1]

    def _with_nothing(self, tokens: Tensor, used: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """The tokens of used cells [n, n_centres], and one for each block that has none."""
        empty = ~used.any(1)
        sizes = tuple((used.sum(1) + empty).tolist())
        if not bool(empty.any()):
            return tokens, sizes
        shown = torch.cat((used, empty[:, None]), dim=1)
        out = self.nothing.repeat(int(shown.sum()), 1)
        is_cell = torch.cat((used, torch.zeros_like(empty)[:, None]), dim=1)[shown]
        return out.index_put((is_cell.nonzero()[:, 0],), tokens), sizes


def part(xyz: Tensor, block: Tensor, n: int, n_centres: int) -> tuple[Tensor, Tensor]:
    """Farthest-point centres of each block, and the cell each point falls in.

    Ties go to the earlier point and the earlier centre, and distances are computed term by term, so a block is parted
    the same way whatever blocks are beside it.

    Args:
        xyz: float32 [P, 3].
        block: int64 [P], ascending, below n.

    Returns:
        Centres [n * n_centres, 3], repeated where a block has fewer distinct points, and cells int64 [P]: block *
        n_centres + the nearest centre.
    """
    count = torch.bincount(block, minlength=n)
    rank = torch.arange(len(block), device=block.device) - (count.cumsum(0) - count)[block]
    longest = max(int(count.max()), 1)
    padded = xyz.new_zeros(3, n, longest)
    padded[:, block, rank] = xyz.T
    nearest = xyz.new_full((n, longest), -1.0)
    nearest[block, rank] = torch.inf
    cell = torch.zeros(n, longest, dtype=torch.long, device=xyz.device)
    pick = torch.where(nearest > 0, padded.square().sum(0), -1.0).argmax(1)
    centres = []
    for i in range(n_centres):
        centre = padded.gather(2, pick[None, :, None].expand(3, n, 1))
        x, y, z = (padded - centre).square()
        distance = x + y + z
        cell = torch.where(distance < nearest, i, cell)
        nearest = torch.minimum(nearest, distance)
        centres.append(centre)
        pick = nearest.argmax(1)
    return torch.cat(centres, dim=2).permute(1, 2, 0).flatten(0, 1), block * n_centres + cell[block, rank]


def features(
    points: Tensor, block: Tensor, n: int, centre: Tensor, cell: Tensor, count: Tensor
) -> tuple[Tensor, Tensor]:
    """What the networks see of points [P, 12] and of cells: [P, FEATURES] and [cells, CENTRE_FEATURES]."""
    xyz, colour_normal = points[:, :3], points[:, 3:9]
    middle = segment_mean(xyz, block, n)
    spread = segment_mean((xyz - middle[block]).square().sum(1, keepdim=True), block, n)
    # A floor in proportion to the distance: coordinates carry seven digits.
    scale = spread.sqrt() + 1e-3 + 1e-3 * middle.abs().sum(1, keepdim=True)
    size = torch.cat((torch.bincount(block, minlength=n).float()[:, None].log1p() / 8, scale.log() / 2), dim=1)
    velocity, intensity, phase = points[:, 9:10].asinh(), points[:, 10:11].asinh() / 4, points[:, 11:12]
    seen = torch.cat(
        (
            (xyz - centre[cell]) / scale[block],
            (xyz - middle[block]) / scale[block],
            xyz.asinh(),
            colour_normal,
            velocity,
            intensity,
            phase,
            size[block],
        ),
        dim=1,
    )
    owner = torch.arange(n, device=xyz.device).repeat_interleave(len(centre) // n)
    share = (count / torch.bincount(block, minlength=n).clamp(min=1)[owner])[:, None]
    around = torch.cat(
        ((centre - middle[owner]) / scale[owner], centre.asinh(), count[:, None].log1p() / 8, share), dim=1
    )
    return seen, around
