"""Point-BERT's tokenizer (Yu et al. 2022, section 3.2): patches to words of a codebook, and back to points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config
from mmworld.modalities.pointcloud.patches import MiniPointNet, group, patch_names
from mmworld.modalities.pointcloud.sampling import nearest_neighbours, take
from mmworld.weights.keymap import KeyMap, Place
from mmworld.weights.names import batch_norm
from mmworld.weights.released import fill
from mmworld.weights.sizes import Width

_EDGES = 4
"""Neighbours of a patch."""
_FOLDS, _FOLD = 2, 0.05
"""Points on a side of the grid that is folded around each coarse point, and half its side."""


@config
class DVAEConfig:
    """What the released configuration says under these names."""

    group_size: Width = 32
    num_group: Width = 64
    encoder_dims: Width = 256
    num_tokens: Width = 8192
    tokens_dims: Width = 256
    decoder_dims: Width = 256

    def __post_init__(self) -> None:
        if self.group_size % _FOLDS**2 or self.num_group < _EDGES:
            raise ValueError(f"group_size must be a multiple of {_FOLDS**2} and num_group at least {_EDGES}")


class DGCNN(nn.Module):
    """Patches and their neighbours through four edge convolutions (Wang et al. 2019, section 3.1)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(c_in, 128, 1)
        sizes = (256, 256), (512, 512), (1024, 512), (1024, 1024)
        self.edges = nn.ModuleList(_unit(nn.Conv2d(a, b, 1, bias=False)) for a, b in sizes)
        self.last = _unit(nn.Conv1d(sum(b for _, b in sizes), c_out, 1, bias=False))

    def forward(self, x: Tensor, centres: Tensor) -> Tensor:
        """Patches [B, N, C] around centres [B, N, 3] to [B, N, D]."""
        near = nearest_neighbours(centres, centres, _EDGES)
        x, found = self.first(x.mT).mT, []
        for edge in self.edges:
            others, own = take(x, near), x[:, :, None].expand(-1, -1, _EDGES, -1)
            x = edge(torch.cat((others - own, own), dim=-1).permute(0, 3, 1, 2)).amax(3).mT
            found.append(x)
        return self.last(torch.cat(found, dim=-1).mT).mT


def _unit(conv: nn.Conv1d | nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.GroupNorm(4, conv.out_channels), nn.LeakyReLU(0.2))


class Folding(nn.Module):
    """A patch's features to coarse points, and around each a folded grid (Yang et al. 2018; Yuan et al. 2018, PCN)."""

    grid: Tensor

    def __init__(self, dim: int, points: int) -> None:
        super().__init__()
        self.points = points
        side = torch.linspace(-_FOLD, _FOLD, _FOLDS)
        grid = torch.stack((side.repeat(_FOLDS), side.repeat_interleave(_FOLDS)))
        self.register_buffer("grid", grid, persistent=False)
        coarse = 3 * points // _FOLDS**2
        self.mlp = nn.Sequential(
            nn.Linear(dim, 1024),
            nn.ReLU(inplace=True),
            nn.Linear(1024, 1024),
            nn.ReLU(inplace=True),
            nn.Linear(1024, coarse),
        )
        self.fold = nn.Sequential(
            *(layer for c in (dim + 5, 512) for layer in (nn.Conv1d(c, 512, 1), nn.BatchNorm1d(512), nn.ReLU())),
            nn.Conv1d(512, 3, 1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Patches [B, N, D] to coarse points [B, N, K / 4, 3] and fine ones [B, N, K, 3] around the centre."""
        flat = x.flatten(0, 1)
        coarse = self.mlp(flat).unflatten(1, (-1, 3))
        around = coarse.repeat_interleave(_FOLDS**2, dim=1).mT
        seed = self.grid.repeat(1, coarse.shape[1]).expand(len(flat), -1, -1)
        fine = self.fold(torch.cat((flat[:, :, None].expand(-1, -1, self.points), seed, around), dim=1)) + around
        return coarse.unflatten(0, x.shape[:2]), fine.mT.unflatten(0, x.shape[:2])


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """What the tokenizer made of clouds.

    Attributes:
        near: patches [B, N, K, 3] around their centres.
        logits: of the words [B, N, V].
        coarse, fine: the points rebuilt, [B, N, K / 4, 3] and [B, N, K, 3].
    """

    near: Tensor
    logits: Tensor
    coarse: Tensor
    fine: Tensor


class DVAE(nn.Module):
    """A discrete variational autoencoder of point patches."""

    def __init__(self, c: DVAEConfig) -> None:
        super().__init__()
        self.config = c
        self.patch = MiniPointNet(3, c.encoder_dims)
        self.to_words = DGCNN(c.encoder_dims, c.num_tokens)
        self.codebook = nn.Parameter(torch.randn(c.num_tokens, c.tokens_dims))
        self.from_words = DGCNN(c.tokens_dims, c.decoder_dims)
        self.decoder = Folding(c.decoder_dims, c.group_size)

    def words(self, near: Tensor, centres: Tensor) -> Tensor:
        """Scores of the words [B, N, V] of patches [B, N, K, 3] around centres [B, N, 3]."""
        return self.to_words(self.patch(near), centres)

    def forward(self, points: Tensor, temperature: float = 1.0, noise: Tensor | None = None) -> Rebuilt:
        """Clouds [B, P, 3] through the codebook and back.

        Args:
            temperature: of the relaxed choice of a word (Jang et al. 2017, eq. 2).
            noise: [B, N, V], of the Gumbel distribution; None draws it.
        """
        near, centres = group(points, self.config.num_group, self.config.group_size)
        logits = self.words(near, centres)
        drawn = -torch.empty_like(logits).exponential_().log() if noise is None else noise
        chosen = ((logits + drawn) / temperature).softmax(-1) @ self.codebook
        return Rebuilt(near, logits, *self.decoder(self.from_words(chosen, centres)))

    @classmethod
    def load(cls, path: Path | str, c: DVAEConfig = DVAEConfig()) -> DVAE:  # noqa: B008 (frozen)
        """The weights that lulutang0608/Point-BERT released, a pickle that is read as tensors alone.

        Raises:
            CheckpointError: the file is missing, holds more than tensors and numbers, or other ones.
        """
        return fill(cls(c), path, "base_model")

    @property
    def keymap(self) -> KeyMap:
        """Of lulutang0608/Point-BERT's names."""
        table: dict[str, Place] = {"codebook": "codebook", **patch_names("patch", "encoder")}
        for mine, theirs in (("to_words", "dgcnn_1"), ("from_words", "dgcnn_2")):
            table[f"{mine}.first.*"] = f"{theirs}.input_trans.*"
            table |= {f"{mine}.edges.{k}.{{i}}.*": f"{theirs}.layer{k + 1}.{{i}}.*" for k in range(4)}
            table[f"{mine}.last.{{i}}.*"] = f"{theirs}.layer5.{{i}}.*"
        table |= {f"decoder.mlp.{i}.*": f"decoder.mlp.{i}.*" for i in (0, 2, 4)}
        for i in (1, 4):
            table |= batch_norm(f"decoder.fold.{i}", f"decoder.final_conv.{i}")
        table |= {f"decoder.fold.{i}.*": f"decoder.final_conv.{i}.*" for i in (0, 3, 6)}
        return KeyMap(table, aliases={"module.": ""})


def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """How far points [B, N, 3] and [B, M, 3] are from the nearest of the others, both ways: the mean, in their unit."""
    away = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return (away.amin(2).mean() + away.amin(1).mean()) / 2


def losses(r: Rebuilt) -> tuple[Tensor, Tensor]:
    """Of rebuilding, and the divergence of an even use of the words from their use in each cloud."""
    near = r.near.flatten(0, 1)
    rebuilt = chamfer(r.coarse.flatten(0, 1), near) + chamfer(r.fine.flatten(0, 1), near)
    used = r.logits.softmax(-1).mean(1).log()
    even = torch.full_like(used, -math.log(used.shape[1]))
    return rebuilt, F.kl_div(used, even, reduction="batchmean", log_target=True)
