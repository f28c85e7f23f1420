"""PointNet++ (Qi et al. 2017): points are grouped around ever fewer centres, and what these learn is carried back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config
from mmworld.modalities.pointcloud.pointwise import step_names, steps
from mmworld.modalities.pointcloud.sampling import ball_query, farthest_points, nearest_neighbours, take
from mmworld.weights.keymap import KeyMap, Place
from mmworld.weights.released import fill


@config
class Scale:
    """
    Attributes:
        radius: of a ball around a centre.
        neighbours: K, points of a ball that are seen.
        widths: of the network over them.
    """

    radius: float
    neighbours: int
    widths: tuple[int, ...]


@config
class Level:
    """
    Attributes:
        scales: balls around each centre, one or several (single-scale and multi-scale grouping).
        centres: N; 0 is one group of all points around the origin.
    """

    scales: tuple[Scale, ...]
    centres: int = 0

    @property
    def width(self) -> int:
        return sum(s.widths[-1] for s in self.scales)


@config
class PointNet2Config:
    """
    Attributes:
        classes: of a cloud, or of a point where there is `up`.
        levels: set abstraction.
        up: widths of feature propagation, from the coarsest level to the points; () scores the whole cloud.
        head: widths before the scores.
        columns: of a point beside x y z.
        placed: whether x y z are among the features of the points too.
        kinds: of objects, of which one is given with each cloud whose parts are told.
    """

    classes: int
    levels: tuple[Level, ...]
    up: tuple[tuple[int, ...], ...] = ()
    head: tuple[int, ...] = (512, 256)
    columns: int = 0
    placed: bool = False
    kinds: int = 0

    def __post_init__(self) -> None:
        if self.up and len(self.up) != len(self.levels):
            raise ValueError(f"{len(self.up)} levels of propagation for {len(self.levels)} of abstraction")

    @property
    def width(self) -> int:
        """Of the features of a point."""
        return self.columns + 3 * self.placed


def single(centres: int, radius: float, neighbours: int, *widths: int) -> Level:
    return Level((Scale(radius, neighbours, widths),), centres)


def several(centres: int, *scales: tuple[float, int, tuple[int, ...]]) -> Level:
    return Level(tuple(Scale(*s) for s in scales), centres)


_WHOLE = single(0, 0.0, 0, 256, 512, 1024)
_SSG = single(512, 0.2, 32, 64, 64, 128), single(128, 0.4, 64, 128, 128, 256), _WHOLE
_MSG = (
    several(512, (0.1, 16, (32, 32, 64)), (0.2, 32, (64, 64, 128)), (0.4, 128, (64, 96, 128))),
    several(128, (0.2, 32, (64, 64, 128)), (0.4, 64, (128, 128, 256)), (0.8, 128, (128, 128, 256))),
    _WHOLE,
)
_PARTS = (
    several(512, (0.1, 32, (32, 32, 64)), (0.2, 64, (64, 64, 128)), (0.4, 128, (64, 96, 128))),
    several(128, (0.4, 64, (128, 128, 256)), (0.8, 128, (128, 196, 256))),
    _WHOLE,
)
_ROOM = (
    single(1024, 0.1, 32, 32, 32, 64),
    single(256, 0.2, 32, 64, 64, 128),
    single(64, 0.4, 32, 128, 128, 256),
    single(16, 0.8, 32, 256, 256, 512),
)
_ROOM_MSG = (
    several(1024, (0.05, 16, (16, 16, 32)), (0.1, 32, (32, 32, 64))),
    several(256, (0.1, 16, (64, 64, 128)), (0.2, 32, (64, 96, 128))),
    several(64, (0.2, 16, (128, 196, 256)), (0.4, 32, (128, 196, 256))),
    several(16, (0.4, 16, (256, 256, 512)), (0.8, 32, (256, 384, 512))),
)
_UP, _ROOM_UP = ((256, 256), (256, 128)), ((256, 256), (256, 256), (256, 128), (128, 128, 128))
_ONE = (128,)
RELEASED = {
    "pointnet2_cls_ssg": PointNet2Config(40, _SSG),
    "pointnet2_cls_msg": PointNet2Config(40, _MSG, columns=3),
    "pointnet2_part_seg_ssg": PointNet2Config(50, _SSG, (*_UP, (128, 128, 128)), _ONE, 3, True, 16),
    "pointnet2_part_seg_msg": PointNet2Config(50, _PARTS, (*_UP, (128, 128)), _ONE, 3, True, 16),
    "pointnet2_sem_seg": PointNet2Config(13, _ROOM, _ROOM_UP, _ONE, 6, True),
    "pointnet2_sem_seg_msg": PointNet2Config(13, _ROOM_MSG, _ROOM_UP, _ONE, 6, True),
}
"""Those of yanx27/Pointnet_Pointnet2_pytorch. Beside x y z there are normals, or in rooms colours and places in the
room, both 0 to 1; the classifier of single scale has none."""


class SetAbstraction(nn.Module):
    """Centres far from each other, and of each the largest of what is learned of the points in its balls (section 3.2).

    Args:
        c_in: features of a point.
    """

    def __init__(self, c: Level, c_in: int) -> None:
        super().__init__()
        self.config = c
        self.branches = nn.ModuleList(steps((3 + c_in, *s.widths), axes=2) for s in c.scales)

    def forward(self, xyz: Tensor, x: Tensor | None) -> tuple[Tensor, Tensor]:
        """Points [B, P, 3] and their features [B, P, C] to centres [B, N, 3] and theirs [B, N, D]."""
        c = self.config
        if not c.centres:
            origin = torch.zeros_like(xyz[:, :1])
            return origin, self.branches[0](self._joined(xyz[:, None], None if x is None else x[:, None])).amax(2).mT
        centres = take(xyz, farthest_points(xyz, c.centres))
        return centres, torch.cat([self._scale(i, xyz, x, centres) for i in range(len(c.scales))], dim=1).mT

    def _scale(self, i: int, xyz: Tensor, x: Tensor | None, centres: Tensor) -> Tensor:
        s = self.config.scales[i]
        index = ball_query(xyz, centres, s.radius, s.neighbours)
        near = take(xyz, index) - centres[:, :, None]
        return self.branches[i](self._joined(near, None if x is None else take(x, index))).amax(2)

    def _joined(self, near: Tensor, x: Tensor | None) -> Tensor:
        """[B, N, K, 3] and [B, N, K, C] to [B, 3 + C, K, N]; with several scales places stand last, as was released."""
        parts = (near,) if x is None else (near, x) if len(self.config.scales) == 1 else (x, near)
        return torch.cat(parts, dim=-1).permute(0, 3, 2, 1)


class FeaturePropagation(nn.Module):
    """What the three nearest centres know, weighted by the inverse square of the distance (section 3.4, eq. 2)."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.unit = steps(widths, axes=1)

    def forward(self, xyz: Tensor, centres: Tensor, skip: Tensor | None, x: Tensor) -> Tensor:
        """Points [B, P, 3] with their features [B, P, C], and centres [B, N, 3] with theirs [B, N, E]: [B, P, D]."""
        came = interpolate(xyz, centres, x) if centres.shape[1] > 1 else x.expand(-1, xyz.shape[1], -1)
        return self.unit((came if skip is None else torch.cat((skip, came), dim=-1)).mT).mT


def interpolate(xyz: Tensor, centres: Tensor, x: Tensor) -> Tensor:
    """Features [B, N, E] of centres [B, N, 3] at points [B, P, 3]."""
    index = nearest_neighbours(centres, xyz, min(3, centres.shape[1]))
    square = (take(centres, index) - xyz[:, :, None]).square().sum(-1)
    weight = F.normalize(1 / (square + 1e-8), p=1, dim=-1)
    return (take(x, index) * weight[..., None]).sum(2)


class PointNet2(nn.Module):
    """Scores of a cloud's classes, or of each point's (figure 2)."""

    def __init__(self, c: PointNet2Config) -> None:
        super().__init__()
        self.config = c
        widths = [c.width, *(level.width for level in c.levels)]
        self.down = nn.ModuleList(SetAbstraction(level, w) for level, w in zip(c.levels, widths, strict=False))
        widths[0] = c.kinds + 3 + c.width if c.kinds else 0
        self.up, w = nn.ModuleList(), widths[-1]
        for skip, up in zip(widths[-2::-1], c.up, strict=False):
            self.up.append(FeaturePropagation((skip + w, *up)))
            w = up[-1]
        axes = 1 if c.up else 0
        self.head = steps((w, *c.head), axes, dropout=0.5 if c.up else 0.4)
        self.scores = nn.Conv1d(c.head[-1], c.classes, 1) if c.up else nn.Linear(c.head[-1], c.classes)

    def encode(self, points: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Points [B, P, 3 + columns] and, level by level, fewer of them [B, N, 3] with their features [B, N, D]."""
        c = self.config
        xyz = points[..., :3]
        x = points if c.placed else points[..., 3:] if c.columns else None
        levels = [(xyz, x)]
        for down in self.down:
            levels.append(down(*levels[-1]))
        return levels

    def forward(self, points: Tensor, kind: Tensor | None = None) -> Tensor:
        """Clouds [B, P, 3 + columns] to scores [B, classes], or of their points [B, P, classes].

        Args:
            kind: int64 [B], of the object, where `kinds` are told apart.
        """
        levels = self.encode(points)
        x = levels[-1][1]
        assert x is not None
        if not self.up:
            return self.scores(self.head(x[:, 0]))
        levels[0] = levels[0][0], self._own(levels[0][1], levels[0][0], kind)
        for up, (xyz, skip), (centres, _) in zip(self.up, levels[-2::-1], levels[:0:-1], strict=True):
            x = up(xyz, centres, skip, x)
        return self.scores(self.head(x.mT)).mT

    def _own(self, x: Tensor | None, xyz: Tensor, kind: Tensor | None) -> Tensor | None:
        """What a point is told of itself at the end of propagation."""
        if not self.config.kinds:
            return None
        if kind is None or x is None:
            raise ValueError("the kinds of the objects are needed")
        one = F.one_hot(kind, self.config.kinds).to(xyz.dtype)
        return torch.cat((one[:, None].expand(-1, xyz.shape[1], -1), xyz, x), dim=-1)

    @classmethod
    def load(cls, path: Path | str, c: PointNet2Config) -> PointNet2:
        """The weights that yanx27/Pointnet_Pointnet2_pytorch released, a pickle that is read as tensors alone.

        Args:
            c: one of RELEASED.

        Raises:
            CheckpointError: the file is missing, holds more than tensors and numbers, or other ones.
        """
        return fill(cls(c), path, "model_state_dict")

    @property
    def keymap(self) -> KeyMap:
        """Of yanx27/Pointnet_Pointnet2_pytorch's names."""
        c, table = self.config, dict[str, Place]()
        for k, level in enumerate(c.levels):
            ours, theirs = f"down.{k}.branches", f"sa{k + 1}"
            if len(level.scales) == 1:
                table |= step_names(f"{ours}.0.{{i}}", f"{theirs}.mlp_convs.{{i}}", f"{theirs}.mlp_bns.{{i}}")
            else:
                at = f"{ours}.{{i}}.{{i}}"
                table |= step_names(at, f"{theirs}.conv_blocks.{{i}}.{{i}}", f"{theirs}.bn_blocks.{{i}}.{{i}}")
        for k in range(len(c.up)):
            theirs = f"fp{len(c.up) - k}"
            table |= step_names(f"up.{k}.unit.{{i}}", f"{theirs}.mlp_convs.{{i}}", f"{theirs}.mlp_bns.{{i}}")
        linear = "conv" if c.up else "fc"
        for k in range(len(c.head)):
            table |= step_names(f"head.{k}", f"{linear}{k + 1}", f"bn{k + 1}")
        return KeyMap({**table, "scores.*": f"{linear}{len(c.head) + 1}.*"}, aliases={"module.": ""})
