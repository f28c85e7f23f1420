"""Flamingo (Alayrac et al. 2022): figures 4 and 5, and what a token sees (section 3.1.3), token by token.

What stays as it is, the picture encoder and the language model's layers, is compared with transformers elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmworld.attention import CAUSAL
from mmworld.models.zoo.flamingo import Flamingo
from mmworld.models.zoo.parity.case import LAYERS, Pairs
from mmworld.nn.attention import Pass

PLACE = 39
_VISION: dict[str, Any] = {**LAYERS, "model_type": "clip_vision_model", "image_size": 8, "patch_size": 4}
_VISION |= {"intermediate_size": 48}
_TEXT: dict[str, Any] = {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 3}
_TEXT |= {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40}
_TEXT |= {"ffn_dim": 40, "max_position_embeddings": 64, "word_embed_proj_dim": 24}


def tiny(frames: int = 0, language: str = "llama") -> Flamingo:
    """A model of random weights, gates too, in float64."""
    text = {**_TEXT, "model_type": language}
    sizes: dict[str, Any] = {"latents": 3, "depth": 2, "n_heads": 2, "head_dim": 8, "every": 2}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        parts = {"vision_config": _VISION, "text_config": text, "image_token_index": PLACE, "frames": frames}
        model = Flamingo({"model_type": "flamingo", **parts, **sizes}).double().eval()
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return model


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """One query [D] over keys [N, D], head by head."""
    out = []
    for qh, kh, vh in zip(q.chunk(heads), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        weights = torch.exp(kh @ qh / math.sqrt(len(qh)))
        out.append((weights / weights.sum()) @ vh)
    return torch.cat(out)


def dense(layer: Any, x: Tensor) -> Tensor:
    y = F.layer_norm(x, x.shape[-1:], layer.norm_feed.weight, layer.norm_feed.bias)
    return F.gelu(y @ layer.feed.up.weight.T) @ layer.feed.down.weight.T


def resample(model: Flamingo, frames: Tensor) -> Tensor:
    """Figure 5: the features of a film's frames [F, N, E] to [n, E]."""
    resampler: Any = model.resampler
    x = resampler.latents
    if resampler.times is not None:
        frames = torch.stack([f + t for f, t in zip(frames, resampler.times, strict=False)])
    flat = frames.flatten(0, 1)
    for layer in resampler.backbone.layers:
        cross, norm = layer.attention.cross, layer.attention.norm
        own = F.layer_norm(x, x.shape[-1:], layer.norm_attention.weight, layer.norm_attention.bias)
        row = torch.cat((F.layer_norm(flat, flat.shape[-1:], norm.weight, norm.bias), own))
        k, v = (row @ cross.kv.weight.T).chunk(2, -1)
        looked = [attend(cross.q.weight @ q, k, v, model.config.n_heads) for q in own]
        x = x + torch.stack([cross.out.weight @ y for y in looked])
        x = x + dense(layer, x)
    norm = resampler.backbone.norm
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias)


def look(model: Flamingo, layer: Any, y: Tensor, films: Sequence[Tensor], ids: Sequence[int]) -> Tensor:
    """Figure 4, before the frozen layer: each token of a text [T, D] looks at the last film before it, if any."""
    cross, norm, seen, out = layer.attention, layer.norm_attention, 0, []
    for token, i in zip(y, ids, strict=True):
        seen += i == PLACE
        if seen:
            k, v = (films[seen - 1] @ cross.kv.weight.T).chunk(2, -1)
            q = cross.q.weight @ F.layer_norm(token, token.shape, norm.weight, norm.bias)
            looked = cross.out.weight @ attend(q, k, v, model.config.n_heads)
            token = token + torch.tanh(layer.end_attention.alpha) * looked
        out.append(token + torch.tanh(layer.end_feed.alpha) * dense(layer, token))
    return torch.stack(out)


def scores(model: Flamingo, ids: Sequence[int], films: Tensor) -> Tensor:
    """The scores of what follows each id of a text [T, V] that shows films [P, F, C, H, W]."""
    language: Any = model.language
    seen = [resample(model, model.vision(film)[:, 1:]) for film in films]
    y = language.embedding.weight[list(ids)]
    run = Pass(CAUSAL, turn=language.backbone.position(torch.arange(len(ids)), y.dtype))
    for i, layer in enumerate(language.backbone.layers):
        if (i + 1) % model.config.every == 0:
            y = look(model, layer.look, y, seen, ids)
        y = layer.layer(y[None], run, i)[0]
    return language.backbone.norm(y) @ language.head.weight.T


TEXT = (5, PLACE, 7, 8, 9, PLACE, 4, 6)


def compare() -> Pairs:
    """Of pictures, of films, and of words alone."""
    ids, generator = torch.tensor([TEXT]), torch.Generator().manual_seed(1)
    for frames, n in ((0, 1), (4, 4), (4, 3)):
        model, films = tiny(frames), torch.randn(2, n, 3, 8, 8, dtype=torch.float64, generator=generator)
        yield model.see(films), torch.stack([resample(model, model.vision(film)[:, 1:]) for film in films])
        yield model(ids, films)[0], scores(model, TEXT, films)
        yield model(ids[:, :1])[0], scores(model, TEXT[:1], films[:0])
