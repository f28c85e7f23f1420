"""VideoCLIP (Xu et al. 2021): both towers, token by token and head by head, over what S3D sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmworld.models.zoo.parity.case import Pairs
from mmworld.models.zoo.parity.equations.pointbert import attended, gelu, linear, normed
from mmworld.models.zoo.parity.equations.s3d import encoded
from mmworld.models.zoo.videoclip import VideoCLIP

TEXT: dict[str, Any] = {"model_type": "bert", "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3}
TEXT |= {"num_attention_heads": 4, "intermediate_size": 40, "max_position_embeddings": 16}
S3D: dict[str, Any] = {
    "num_classes": 20,
    "fps": 6,
    "image_size": 32,
    "stem": [8, 10],
    "blocks": [[4, 5, 6, 3, 4, 3 + i % 2] for i in range(9)],
}
SIZES: dict[str, Any] = {
    "model_type": "videoclip",
    "text_config": TEXT,
    "s3d_config": S3D,
    "num_hidden_video_layers": 2,
    "max_video_len": 5,
    "vfeat_dim": 20,
    "cls_token_id": 3,
    "sep_token_id": 4,
}
TEXTS = ((3, 7, 30, 4), (3, 4), (3, 9, 10, 11, 12, 40, 4))


def tiny(**changes: Any) -> VideoCLIP:
    """A model in float64 whose batch norms know the films that are compared, so that what it sees of them differs."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(11)
        model = VideoCLIP({**SIZES, **changes}).double().eval()
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
        if model.s3d is not None:
            norms = [m for m in model.s3d.modules() if isinstance(m, nn.BatchNorm3d)]
            for norm in norms:
                norm.training, norm.momentum = True, 1.0
            model.s3d(films().flatten(0, 1))
    return model.eval()


def films(n: int = 3) -> Tensor:
    """Two of n seconds [2, n, 3, T, H, W]."""
    return torch.rand(2, n, 3, 6, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def features(model: Any, film: Tensor) -> Tensor:
    """A film's seconds [N, 3, T, H, W] to what S3D says of each, of length 1."""
    said = [encoded(model.s3d, second) for second in film]
    return torch.stack([x / x.square().sum().sqrt() for x in said])


def read(tower: Any, x: list[Tensor], places: Sequence[int]) -> Tensor:
    """Embedded tokens at places through a BERT to the mean of all but the first."""
    table = tower.embeddings
    x = [t + table.places.table.weight[i] + table.types.weight[0] for t, i in zip(x, places, strict=True)]
    x = [normed(table.norm, t) for t in x]
    for layer in tower.backbone.layers:
        seen = attended(layer.attention, x)
        x = [normed(layer.norm_attention, a + b) for a, b in zip(x, seen, strict=True)]
        fed = [linear(layer.feed.down, gelu(linear(layer.feed.up, t))) for t in x]
        x = [normed(layer.norm_feed, a + b) for a, b in zip(x, fed, strict=True)]
    return torch.stack(x[1:]).mean(0)


def watched(model: Any, seconds: Tensor) -> Tensor:
    """Features of one film [N, E] to what stands for it."""
    tower = model.video
    words = tower.embeddings.words.weight
    tokens = [linear(tower.down, normed(tower.norm, gelu(linear(tower.up, x)))) for x in seconds]
    longest = model.config.max_video_len
    x = [words[model.config.cls_token_id], *tokens, words[model.config.sep_token_id]]
    return read(tower, x, [*range(len(seconds) + 1), longest + 1])


def told(model: Any, text: Sequence[int]) -> Tensor:
    words = model.text.embeddings.words.weight
    return read(model.text, [words[i] for i in text], range(len(text)))


def compare() -> Pairs:
    """Of two films and three texts: features, both towers and scores; of features that were made before; and of a film
    whose maps are of odd sizes where they are pooled."""
    model: Any = tiny()
    seen, told_ = [features(model, film) for film in films()], torch.stack([told(model, t) for t in TEXTS])
    yield model.features(films()), torch.stack(seen)
    watched_ = torch.stack([watched(model, x) for x in seen])
    yield model.embed(films()), watched_
    yield model.embed_texts(TEXTS), told_
    yield model(films(), TEXTS), watched_ @ told_.T
    given = torch.randn(2, 5, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    yield model.embed(given), torch.stack([watched(model, x) for x in given])
    odd = torch.rand(3, 10, 72, 44, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    yield model.s3d(odd[None])[0], encoded(model.s3d, odd)
