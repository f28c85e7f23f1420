"""A point stem: a block's points are parted among far-apart centres, and each part becomes a token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmworld.modalities.pointcloud.blocks import PointBlocks
from mmworld.nn.segment import segment_max, segment_mean

FREQUENCIES = (0.5, 1.0, 2.0, 4.0)
WAVES = 1 + 2 * len(FREQUENCIES)
FEATURES, AROUND, MOMENTS = 20, 8, 4 * 12 + 2
LARGEST = 1e5
"""Metres; what lies farther is taken to lie there."""


class PointStem(nn.Module):
    """Points of blocks to tokens: one for a block as a whole, and one for each of its parts.

    Farthest-point sampling picks the centres of the parts, every point goes to its nearest, and the points of a part go
    through a shared network to their maximum and mean (PointNet, Qi et al. 2017; PointNet++, Qi et al. 2017, section
    3.2). The whole is seen by the same network, and by the mean, spread and extremes of what the points carry.

    Args:
        dim: width D of a token.
        width: of the network over points.
        n_centres: parts of a block, at most.
        part_points: a block has a part for so many points.
        max_points: points of a block that are used, evenly spaced in their order.
    """

    def __init__(self, dim: int, width: int, n_centres: int, part_points: int, max_points: int) -> None:
        super().__init__()
        self.n_centres, self.part_points, self.max_points = n_centres, part_points, max_points
        self.point = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, 2 * width), nn.ReLU())
        self.part = nn.Sequential(nn.Linear(4 * width + AROUND * WAVES, dim), nn.GELU(), nn.Linear(dim, dim))
        self.whole = nn.Sequential(nn.Linear(4 * width + MOMENTS * WAVES, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, parts: Sequence[PointBlocks]) -> tuple[Tensor, tuple[int, ...]]:
        """Blocks of each stream to tokens [N, D]; a block without points gives one."""
        weight = next(self.parameters())
        points, block, n = self._join(parts, weight.device)
        centre, cell = part(points[:, :3], block, n, self.n_centres, self.part_points)
        count = torch.bincount(cell, minlength=n * self.n_centres)
        seen, around = features(points, block, n, centre, cell, count.float())
        h = self.point(seen.to(weight.dtype))
        most, mean = segment_max(h, cell, len(count)), segment_mean(h, cell, len(count))
        used = count > 0
        tokens = self.part(torch.cat((most[used], mean[used], waves(around[used]).to(weight.dtype)), dim=1))
        of_all = segment_max(h, block, n), segment_mean(h, block, n), waves(moments(points, block, n)).to(weight.dtype)
        whole = self.whole(torch.cat(of_all, dim=1))
        return self._interleave(whole, tokens, used.unflatten(0, (n, -1)))

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

    @staticmethod
    def _interleave(whole: Tensor, tokens: Tensor, used: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Of each block its whole [n, D], then the tokens of its used cells [n, n_centres]."""
        n_parts = used.sum(1)
        owner = torch.arange(len(whole), device=whole.device)
        order = torch.cat((owner, owner.repeat_interleave(n_parts))).argsort(stable=True)
        return torch.cat((whole, tokens))[order], tuple((n_parts + 1).tolist())


def part(xyz: Tensor, block: Tensor, n: int, n_centres: int, part_points: int) -> tuple[Tensor, Tensor]:
    """Farthest-point centres of each block, and the cell each point falls in.

    Ties go to the earlier point and the earlier centre, and distances are computed term by term, so a block is parted
    the same way whatever blocks are beside it.

    Args:
        xyz: float32 [P, 3].
        block: int64 [P], ascending, below n.
        n_centres: most centres of a block; it has one for every part_points points, or fewer if they coincide.

    Returns:
        Centres [n * n_centres, 3], those beyond a block's own without points, and cells int64 [P]: block * n_centres +
        the nearest centre.
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
        closer = (distance < nearest) & (i * part_points < count)[:, None]
        cell = torch.where(closer, i, cell)
        nearest = torch.where(closer, distance, nearest)
        centres.append(centre)
        pick = nearest.argmax(1)
    return torch.cat(centres, dim=2).permute(1, 2, 0).flatten(0, 1), block * n_centres + cell[block, rank]


def features(
    points: Tensor, block: Tensor, n: int, centre: Tensor, cell: Tensor, count: Tensor
) -> tuple[Tensor, Tensor]:
    """What the networks see of points [P, 12] and of cells: [P, FEATURES] and [cells, AROUND]."""
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


def moments(points: Tensor, block: Tensor, n: int) -> Tensor:
    """Mean, spread, least and most of what the points of each block carry, and their number: [n, MOMENTS]."""
    values = torch.cat((points[:, :9], points[:, 9:10].asinh(), points[:, 10:11].asinh(), points[:, 11:]), dim=1)
    values = torch.cat((values[:, :3].asinh(), values[:, 3:]), dim=1)
    mean = segment_mean(values, block, n)
    spread = segment_mean((values - mean[block]).square(), block, n).sqrt()
    count = torch.bincount(block, minlength=n).float()[:, None]
    least, most = -segment_max(-values, block, n), segment_max(values, block, n)
    return torch.cat((mean, spread, least, most, count.log1p() / 8, (count == 0).float()), dim=1)


def waves(x: Tensor) -> Tensor:
    """Numbers [N, F] beside their sines and cosines [N, F * WAVES], so that small differences count at once.

    Gorishniy et al. 2022, "On embeddings for numerical features in tabular deep learning", equation 3.
    """
    phase = torch.cat([2 * torch.pi * f * x for f in FREQUENCIES], dim=1)
    return torch.cat((x, phase.sin(), phase.cos()), dim=1)
