"""PointLLM (Xu et al. 2024): its encoder, projection and language model, token by token."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mmworld.models.zoo.parity.case import Pairs
from mmworld.models.zoo.parity.equations.pointbert import encoded, gelu, linear, shaken
from mmworld.models.zoo.pointllm import PointLLM

SIZES: dict[str, Any] = {
    "model_type": "pointllm",
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "mm_use_point_start_end": True,
    "use_color": True,
    "point_backbone_config": {
        **{"trans_dim": 16, "depth": 2, "num_heads": 2, "group_size": 6, "num_group": 5, "encoder_dims": 12},
        "projection_hidden_dim": [20, 18],
    },
}


def tiny(**changes: Any) -> PointLLM:
    """A model of random weights, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model: PointLLM = shaken(PointLLM({**SIZES, **changes}))
        return model


def rms(norm: Any, x: Tensor) -> Tensor:
    return x / (x.square().mean() + norm.eps).sqrt() * norm.weight


def turned(x: Tensor, at: int) -> Tensor:
    """A head's query or key, each pair of channels by its angle."""
    half, out = len(x) // 2, x.clone()
    for i in range(half):
        angle = at * 10_000 ** (-i / half)
        out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        out[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
    return out


def attended(attention: Any, x: list[Tensor]) -> list[Tensor]:
    """Every token over itself and those before it; several heads of queries share one of keys."""
    heads, shared, width = attention.n_heads, attention.n_heads // attention.n_kv_heads, attention.head_dim
    rows = [(attention.qkv.weight @ t).view(-1, width) for t in x]
    out = []
    for at in range(len(x)):
        found = []
        for h in range(heads):
            q, k, v = turned(rows[at][h], at), heads + h // shared, heads + attention.n_kv_heads + h // shared
            logits = torch.stack([q @ turned(rows[j][k], j) / math.sqrt(width) for j in range(at + 1)])
            weights: Any = logits.exp() / logits.exp().sum()
            found.append(sum(w * rows[j][v] for j, w in enumerate(weights)))
        out.append(attention.out.weight @ torch.cat(found))
    return out


def told(language: Any, x: list[Tensor]) -> Tensor:
    """Embedded tokens to the scores of the ids that follow [T, V]."""
    for layer in language.backbone.layers:
        seen = attended(layer.attention, [rms(layer.norm_attention, t) for t in x])
        x = [a + b for a, b in zip(x, seen, strict=True)]
        for i, t in enumerate(x):
            gate, value = (layer.feed.up.weight @ rms(layer.norm_feed, t)).chunk(2)
            x[i] = t + layer.feed.down.weight @ (gate / (1 + (-gate).exp()) * value)
    return torch.stack([language.head.weight @ rms(language.backbone.norm, t) for t in x])


def seen(model: PointLLM, points: Tensor) -> list[Tensor]:
    """A cloud [P, 6] to tokens of the language model."""
    x = encoded(model.points, points)
    for i, layer in enumerate(list(model.projector)[::2]):
        x = [linear(layer, gelu(t) if i else t) for t in x]
    return x


def compare() -> Pairs:
    """Of a conversation about two clouds, by each of the projections that were released."""
    draw = torch.Generator().manual_seed(1)
    points = torch.rand(2, 15, 6, dtype=torch.float64, generator=draw)
    words = torch.randint(3, 47, (3, 4), generator=draw).tolist()
    text = [*words[0], 48, *[47] * 6, 49, *words[1], 48, *[47] * 6, 49, *words[2]]
    for hidden in ([20, 18], []):
        model = tiny(point_backbone_config={**SIZES["point_backbone_config"], "projection_hidden_dim": hidden})
        shown = iter([t for cloud in points for t in seen(model, cloud)])
        x = [next(shown) if i == 47 else model.language.embedding.weight[i] for i in text]
        yield model(torch.tensor([text]), points)[0], told(model.language, x)
