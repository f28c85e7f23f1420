"""Where in a cloud the things are that a text names.

Parts are those of 3DETR (Misra et al. 2021: a set abstraction, a transformer over its centres, queries at centres far
from each other, boxes matched to them as a whole) and of BUTD-DETR (Jain et al. 2022: points and words attend to each
other, queries to both, a query is scored by how it aligns with the words). Text is read once for a stream of clouds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import Mask
from mmworld.config import config
from mmworld.errors import UsageError
from mmworld.modalities.pointcloud.pointnet2 import Level, SetAbstraction, single
from mmworld.modalities.pointcloud.sampling import some_of
from mmworld.models.zoo.conversation import vocabulary
from mmworld.nn.attention import CrossAttention
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.segment import segment_mean
from mmworld.nn.transformer import Transformer
from mmworld.text.bert import Bert
from mmworld.text.packing import pack

WAVES = (0.125, 0.25, 0.5, 1.0, 2.0)
"""Waves a metre by which a place is told apart from others."""
MAX_POINTS = 1 << 14
"""Of a cloud that are looked at."""


@config
class GroundingConfig:
    """
    Attributes:
        text: what config.json would say of the BERT that reads the phrases.
        levels: set abstraction; the centres of the last one are the points' tokens.
        columns: of a point beside x y z.
        dim: width D of a token.
        n_heads: of the transformers.
        encoder, decoder: layers.
        queries: boxes that are looked for, at most as many as the last level has centres.
    """

    text: dict[str, Any]
    levels: tuple[Level, ...] = (single(512, 0.2, 32, 64, 64, 128), single(128, 0.4, 32, 128, 128, 256))
    columns: int = 3
    dim: int = 128
    n_heads: int = 4
    encoder: int = 2
    decoder: int = 2
    queries: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.queries <= self.levels[-1].centres:
            raise ValueError(f"{self.queries} queries of {self.levels[-1].centres} centres")


@dataclass(frozen=True, eq=False)
class Phrases:
    """Phrases that have been read.

    Attributes:
        tokens: [T, D], of all of them in a row.
        lengths: of each.
    """

    tokens: Tensor
    lengths: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in one cloud.

    Attributes:
        boxes: [Q, 7], see `mmworld.modalities.pointcloud.boxes`.
        logits: [Q, K + 1], of each phrase, and of none.
    """

    boxes: Tensor
    logits: Tensor


class Grounder(nn.Module):
    """Boxes of the things that phrases name."""

    def __init__(self, c: GroundingConfig) -> None:
        super().__init__()
        self.config, dim = c, c.dim
        self.text = Bert({**c.text, "architectures": ["BertForMaskedLM"]})
        widths = (c.columns, *(level.width for level in c.levels))
        self.down = nn.ModuleList(SetAbstraction(level, w) for level, w in zip(c.levels, widths, strict=False))
        self.seen, self.told = nn.Linear(widths[-1], dim), nn.Linear(self.text.config.hidden_size, dim)
        self.place = nn.Linear(3 + 6 * len(WAVES), dim)
        self.encoder = Transformer(TransformerConfig(dim, c.encoder, c.n_heads))
        sizes = TransformerConfig(dim, c.decoder, c.n_heads)
        self.decoder = Transformer(sizes, layer=lambda _: Layer(sizes, cross=CrossAttention(sizes)))
        self.point, self.nearness = nn.Linear(dim, dim), nn.Parameter(torch.tensor(2.0).log())
        self.query, self.phrase = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.none, self.sharpness = nn.Parameter(torch.randn(dim)), nn.Parameter(torch.tensor(10.0).log())
        self.box = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 8))

    def read(self, phrases: Sequence[Sequence[int]]) -> Phrases:
        """The ids of phrases, each read by itself."""
        ids, lengths = pack(phrases, self.none.device)
        return Phrases(self.told(self.text(ids, lengths=lengths)[0]), lengths)

    def forward(self, points: Tensor, told: Sequence[Phrases]) -> list[Found]:
        """Clouds [B, P, 3 + columns] and the phrases of each to what they name there."""
        middle = points[..., :3].mean(1, keepdim=True)
        xyz, x = points[..., :3] - middle, points[..., 3:] if self.config.columns else None
        for down in self.down:
            xyz, x = down(xyz, x)
        assert x is not None
        rows = [torch.cat((p, t.tokens)) for p, t in zip(self.seen(x) + self.place(waves(xyz)), told, strict=True)]
        lengths, n, q = tuple(len(r) for r in rows), xyz.shape[1], self.config.queries
        row = self.encoder(torch.cat(rows)[None], Mask("full", lengths=lengths))
        rows = list(row[0].split(list(lengths)))
        asked = (q,) * len(rows)
        looked = self.decoder(
            torch.cat([r[:q] for r in rows])[None],  # the first centres are the farthest from each other
            Mask("full", lengths=asked),
            context=row,
            context_mask=Mask("full", lengths=asked, key_lengths=lengths),
        )[0].unflatten(0, (-1, q))
        boxes = self._boxes(looked, torch.stack([r[:n] for r in rows]), xyz + middle)
        logits = [self._align(a, r[n:], t.lengths) for a, r, t in zip(looked, rows, told, strict=True)]
        return [Found(b, s) for b, s in zip(boxes, logits, strict=True)]

    def _boxes(self, x: Tensor, seen: Tensor, xyz: Tensor) -> Tensor:
        """Of queries [B, Q, D], those of the first of the tokens [B, N, D] at [B, N, 3].

        Each points at tokens around its own, and tells its box from there; half a turn leaves a box as it is, so twice
        the angle is told.
        """
        far = torch.cdist(xyz[:, : x.shape[1]], xyz) * self.nearness.exp()
        at = (self.point(x) @ seen.mT / x.shape[-1] ** 0.5 - far.square()).softmax(-1) @ xyz
        away, size, sin, cos = self.box(x).split((3, 3, 1, 1), dim=-1)
        return torch.cat((at + away, size.clamp(-5, 5).exp(), torch.atan2(sin, cos) / 2), dim=-1)

    def _align(self, x: Tensor, words: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Queries [Q, D] with phrases, whose words are [T, D], and with none."""
        of = torch.arange(len(lengths), device=x.device).repeat_interleave(torch.tensor(lengths, device=x.device))
        phrases = torch.cat((self.phrase(segment_mean(words, of, len(lengths))), self.none[None]))
        return self.sharpness.exp() * F.normalize(self.query(x), dim=-1) @ F.normalize(phrases, dim=-1).T


def waves(xyz: Tensor) -> Tensor:
    """Places [..., 3] beside their sines and cosines [..., 3 + 6 W] (3DETR, section 3.2)."""
    phase = torch.cat([2 * torch.pi * f * xyz for f in WAVES], dim=-1)
    return torch.cat((xyz, phase.sin(), phase.cos()), dim=-1)


@dataclass(frozen=True, eq=False)
class Grounding:
    """A phrase, and the boxes that it may name [Q, 7], the likeliest first, with the probability of each [Q]."""

    text: str
    boxes: Tensor
    scores: Tensor


@torch.no_grad()
def ground_points(cloud: Tensor, texts: Sequence[str], model: Any) -> list[Grounding]:
    """Where in a cloud the things are that texts name.

    Args:
        cloud: float32 [P, 3 + F], x y z (metres), then what the model was trained on.
        model: a Grounder with a tokenizer.

    Raises:
        UsageError: the model has no vocabulary, the cloud is empty or has too few columns, or a text no words.
    """
    tokenizer, columns = vocabulary(model), 3 + model.config.columns
    if cloud.ndim != 2 or not len(cloud) or cloud.shape[1] < columns:
        raise UsageError(f"a cloud of shape {list(cloud.shape)}, the model reads [P, {columns}]")
    phrases = [tokenizer.encode(text) for text in texts]
    if empty := [text for text, ids in zip(texts, phrases, strict=True) if not ids]:
        raise UsageError(f"{empty[0]!r} names nothing")
    if not texts:
        return []
    points = some_of(cloud[:, :columns], MAX_POINTS).to(model.none.device, model.none.dtype)
    (found,) = model(points[None], [model.read(phrases)])
    scores, order = found.logits.softmax(-1)[:, :-1].sort(0, descending=True)
    return [Grounding(t, found.boxes[order[:, k]], scores[:, k]) for k, t in enumerate(texts)]
