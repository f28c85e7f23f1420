"""Language models that look at pictures between their layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmworld.models.zoo.parity.case import Case, Pairs, ids, noise
from mmworld.models.zoo.parity.joint import SEEN, TOLD, asked


def sees(text: Tensor, place: int, end: int) -> Tensor:
    """Of each token of a text [1, T] which of its pictures it looks at, as IDEFICS's processor says [1, T, P]."""
    n = int((text == place).sum())
    out, seen = torch.zeros(1, text.shape[1], max(n, 1), dtype=torch.long), 0
    blind = True
    for i, token in enumerate(text[0].tolist()):
        seen += token == place
        blind = (blind and token != place) or (i > 0 and int(text[0, i - 1]) == end and token != place)
        out[0, i, seen - 1] = int(not blind)
    return out


def _looks(ours: Any, theirs: Any) -> Pairs:
    text = torch.cat((asked(2, 1), torch.tensor([[2, 5, 6]]), asked(1, 1)), dim=1)
    pictures = noise(3, 3, 8, 8)
    told = theirs(text, pixel_values=pictures[None], image_attention_mask=sees(text, ours.place, 2))
    yield ours(text, pictures), told.logits
    words = ids(9, most=40)
    nothing = torch.zeros(1, 9, 1, dtype=torch.long)
    told = theirs(words, pixel_values=torch.zeros(1, 1, 3, 8, 8), image_attention_mask=nothing)
    yield ours(words), told.logits


_PERCEIVER: dict[str, Any] = {"resampler_n_latents": 3, "resampler_depth": 2, "resampler_n_heads": 2}
_PERCEIVER |= {"resampler_head_dim": 8}
_IDEFICS: dict[str, Any] = {**TOLD, "vocab_size": 48, "additional_vocab_size": 3, "num_hidden_layers": 3}
_IDEFICS |= {"vision_config": {**SEEN, "embed_dim": 32, "hidden_act": "gelu"}, "eos_token_id": 2}
_IDEFICS |= {"perceiver_config": _PERCEIVER}
_NORMED: dict[str, Any] = {
    "qk_layer_norms": True,
    "cross_layer_interval": 2,
    "alpha_type": "vector",
    "num_hidden_layers": 4,
}
CASES = {
    "idefics": Case("IdeficsConfig", "IdeficsForVisionText2Text", _IDEFICS, _looks),
    "idefics, resampled": Case(
        "IdeficsConfig", "IdeficsForVisionText2Text", {**_IDEFICS, "use_resampler": True}, _looks
    ),
    "idefics, normed": Case(
        "IdeficsConfig",
        "IdeficsForVisionText2Text",
        {
            **_IDEFICS,
            **_NORMED,
            "use_resampler": True,
            "perceiver_config": {**_PERCEIVER, "qk_layer_norms_perceiver": True},
        },
        _looks,
    ),
}
