"""Point-BERT (Yu et al. 2022): a transformer over point patches, trained to name the words of those it does not see."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config
from mmworld.modalities.pointcloud.dvae import DVAE, DVAEConfig
from mmworld.modalities.pointcloud.patches import MiniPointNet, group, patch_names
from mmworld.nn.attention import Pass
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.transformer import Transformer
from mmworld.weights.keymap import KeyMap, Leading, Place
from mmworld.weights.released import fill
from mmworld.weights.sizes import Depth, Width


@config
class PointBertConfig:
    """What the released configuration says under these names.

    Attributes:
        point_dims: numbers of a point: x y z, or x y z r g b.
        cls_dim: classes, or the width of what stands for a cloud in pre-training.
    """

    trans_dim: Width = 384
    depth: Depth = 12
    num_heads: Width = 6
    group_size: Width = 32
    num_group: Width = 64
    encoder_dims: Width = 256
    point_dims: Width = 3
    cls_dim: Width = 40


class Placed(nn.Module):
    """A layer whose tokens are told their places again; these come as the context."""

    def __init__(self, c: TransformerConfig) -> None:
        super().__init__()
        self.layer = Layer(c)

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        assert run.context is not None
        return self.layer(x + run.context, run, layer)


class PointBert(nn.Module):
    """Patches and a token for the whole, through a pre-norm transformer (figure 2)."""

    def __init__(self, c: PointBertConfig) -> None:
        super().__init__()
        self.config = c
        dim = c.trans_dim
        self.patch, self.reduce = MiniPointNet(c.point_dims, c.encoder_dims), nn.Linear(c.encoder_dims, dim)
        self.token, self.token_place = (nn.Parameter(torch.zeros(dim)) for _ in range(2))
        self.place = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, dim))
        sizes = TransformerConfig(dim, c.depth, c.num_heads, qkv_bias=False)
        self.backbone = Transformer(sizes, layer=lambda _: Placed(sizes))

    def group(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Clouds [B, P, C] to patches [B, N, K, C] and centres [B, N, 3]."""
        return group(points, self.config.num_group, self.config.group_size)

    def embed(self, near: Tensor) -> Tensor:
        """Patches [B, N, K, C] to [B, N, D], without their places."""
        return self.reduce(self.patch(near))

    def read(self, x: Tensor, centres: Tensor) -> Tensor:
        """Patches [B, N, D] at centres [B, N, 3] to tokens [B, 1 + N, D], the first of the whole cloud."""
        whole, place = (p.expand(len(x), 1, -1) for p in (self.token, self.token_place))
        places = torch.cat((place, self.place(centres)), dim=1)
        return self.backbone(torch.cat((whole, x), dim=1), context=places)

    def forward(self, points: Tensor) -> Tensor:
        """Clouds [B, P, C] to tokens [B, 1 + N, D]."""
        near, centres = (x.to(self.token.dtype) for x in self.group(points))
        return self.read(self.embed(near), centres)

    @property
    def keymap(self) -> KeyMap:
        """Of lulutang0608/Point-BERT's names."""
        at, ours = "blocks.blocks.{i}", "backbone.layers.{i}.layer"
        table: dict[str, Place] = {
            **patch_names("patch", "encoder"),
            "reduce.*": "reduce_dim.*",
            "token": Leading("cls_token", 2),
            "token_place": Leading("cls_pos", 2),
            "place.{i}.*": "pos_embed.{i}.*",
            "backbone.norm.*": "norm.*",
            f"{ours}.norm_attention.*": f"{at}.norm1.*",
            f"{ours}.attention.qkv.weight": f"{at}.attn.qkv.weight",
            f"{ours}.attention.out.*": f"{at}.attn.proj.*",
            f"{ours}.norm_feed.*": f"{at}.norm2.*",
            f"{ours}.feed.up.*": f"{at}.mlp.fc1.*",
            f"{ours}.feed.down.*": f"{at}.mlp.fc2.*",
        }
        return KeyMap(table)


class PointBertClassifier(nn.Module):
    """Scores of a cloud's classes from its token and the largest of its patches."""

    def __init__(self, c: PointBertConfig) -> None:
        super().__init__()
        self.encoder = PointBert(c)
        self.head = nn.Sequential(
            nn.Linear(2 * c.trans_dim, 256), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(256, c.cls_dim)
        )

    def forward(self, points: Tensor) -> Tensor:
        """Clouds [B, P, C] to scores [B, classes]."""
        x = self.encoder(points)
        return self.head(torch.cat((x[:, 0], x[:, 1:].amax(1)), dim=-1))

    @classmethod
    def load(cls, path: Path | str, c: PointBertConfig) -> PointBertClassifier:
        """The weights that lulutang0608/Point-BERT released, a pickle that is read as tensors alone.

        Raises:
            CheckpointError: the file is missing, holds more than tensors and numbers, or other ones.
        """
        return fill(cls(c), path, "base_model")

    @property
    def keymap(self) -> KeyMap:
        """Of lulutang0608/Point-BERT's names."""
        head = KeyMap({"head.{i}.*": "cls_head_finetune.{i}.*"}, aliases={"module.": ""})
        return head | self.encoder.keymap.within("encoder.", "")


class MaskedPointBert(nn.Module):
    """Masked point modelling (section 3.3): the words that the tokenizer has for patches that are not seen.

    The contrast of whole clouds that the paper trains beside it is left out, and with it a second encoder and a queue
    in released files.
    """

    def __init__(self, c: PointBertConfig, words: DVAEConfig) -> None:
        super().__init__()
        self.encoder, self.tokenizer = PointBert(c), DVAE(words).requires_grad_(False)
        self.unseen = nn.Parameter(torch.zeros(c.trans_dim))
        self.words = nn.Linear(c.trans_dim, words.num_tokens)
        self.whole = nn.Sequential(nn.Linear(c.trans_dim, c.cls_dim), nn.GELU(), nn.Linear(c.cls_dim, c.cls_dim))

    def forward(self, near: Tensor, centres: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """Patches [B, N, K, 3] at centres [B, N, 3], not seen where `masked` [B, N], to the scores of their words
        [B, N, V], and what stands for each cloud [B, cls_dim]."""
        x = torch.where(masked[..., None], self.unseen, self.encoder.embed(near))
        x = self.encoder.read(x, centres)
        return self.words(x[:, 1:]), self.whole(x[:, 0])

    def loss(self, points: Tensor, ratio: float = 0.35, generator: torch.Generator | None = None) -> Tensor:
        """Of naming the words of a masked part of each cloud [B, P, 3]."""
        near, centres = self.encoder.group(points)
        masked = mask_block(centres, ratio, generator)
        scores, _ = self(near, centres, masked)
        return F.cross_entropy(scores[masked], self.label(near, centres)[masked])

    @torch.no_grad()
    def label(self, near: Tensor, centres: Tensor) -> Tensor:
        """The word of each patch, int64 [B, N]."""
        return self.tokenizer.words(near, centres).argmax(-1)

    @classmethod
    def load(cls, path: Path | str, c: PointBertConfig, words: DVAEConfig = DVAEConfig()) -> MaskedPointBert:  # noqa: B008
        """The pre-trained weights that lulutang0608/Point-BERT released, a pickle that is read as tensors alone.

        Raises:
            CheckpointError: the file is missing, holds more than tensors and numbers, or other ones.
        """
        return fill(cls(c, words), path, "base_model")

    @property
    def keymap(self) -> KeyMap:
        """Of lulutang0608/Point-BERT's names."""
        own: dict[str, Place] = {
            "unseen": Leading("mask_token", 2),
            "words.*": "lm_head.*",
            "whole.{i}.*": "cls_head.{i}.*",
        }
        student = KeyMap(own) | self.encoder.keymap.within("encoder.", "")
        copy = KeyMap({}, unused=tuple(f"transformer_k.{n}" for n in student.names), aliases={"module.": ""})
        rest = KeyMap({}, unused=("queue", "queue_ptr"))
        return copy | rest | student.within("", "transformer_q.") | self.tokenizer.keymap.within("tokenizer.", "dvae.")


def mask_block(centres: Tensor, ratio: float, generator: torch.Generator | None = None) -> Tensor:
    """Block-wise masking: the patches around one drawn at random, bool [B, N] of centres [B, N, 3]."""
    b, n, _ = centres.shape
    drawn = torch.randint(n, (b, 1), generator=generator).to(centres.device)
    away = (centres - centres.gather(1, drawn[..., None].expand(-1, -1, 3))).square().sum(-1)
    near = away.argsort(1)[:, : int(ratio * n)]
    return torch.zeros(b, n, dtype=torch.bool, device=centres.device).scatter(1, near, True)
