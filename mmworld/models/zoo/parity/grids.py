"""Models of pictures and films of any size, and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmworld.models.zoo.parity.case import Case, Pairs, ids, noise
from mmworld.models.zoo.qwen_vl import Film

IMAGE, VIDEO = 48, 49


def films(unit: int) -> tuple[tuple[Tensor, float | None], ...]:
    """Two pictures and two films of different sizes, in units of one token, and the seconds between their times."""
    sizes = (1, 2, 3), (2, 4, 1), (1, 5, 5), (5, 2, 6)
    seconds = None, 0.7, None, 1.3
    return tuple((noise(2 * t, 3, unit * h, unit * w), s) for (t, h, w), s in zip(sizes, seconds, strict=True))


def asked(ours: Any, shown: Sequence[tuple[Tensor, float | None]]) -> Tensor:
    """A text with places for what is shown among words."""
    words = ids(3 * (len(shown) + 1), len(shown)).view(-1, 3)
    places = [ours.grid(Film(*s)).n * [IMAGE if s[1] is None else VIDEO] for s in shown]
    return torch.cat([p for row, n in zip(words, [*places, []], strict=True) for p in (row, torch.tensor(n).long())])[
        None
    ]


def given(ours: Any, shown: Sequence[tuple[Tensor, float | None]]) -> dict[str, Any]:
    """What transformers is given of the same."""
    text, boxes = asked(ours, shown), ours.vision.boxes
    told: dict[str, Any] = {"input_ids": text, "mm_token_type_ids": (text == IMAGE) + 2 * (text == VIDEO)}
    for name, grid, mine in (
        ("pixel_values", "image_grid_thw", [f for f, s in shown if s is None]),
        ("pixel_values_videos", "video_grid_thw", [f for f, s in shown if s is not None]),
    ):
        if mine:
            told |= {name: torch.cat([boxes.cut(f) for f in mine]), grid: torch.tensor([boxes.grid(f) for f in mine])}
    if ours.config.model_type == "qwen2_5_vl":
        told["second_per_grid_ts"] = torch.tensor([s for _, s in shown if s is not None])
    return told


def _answers(ours: Any, theirs: Any) -> Pairs:
    shown = films(8)
    told = given(ours, shown)
    yield (
        ours.see([f for f, s in shown if s is None]),
        torch.cat(theirs.get_image_features(told["pixel_values"], told["image_grid_thw"]).pooler_output),
    )
    yield ours(told["input_ids"], [Film(*s) for s in shown]), theirs(**told).logits


_TEXT: dict[str, Any] = {"vocab_size": 50, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_TEXT |= {"intermediate_size": 40, "num_key_value_heads": 2, "eos_token_id": None, "bos_token_id": None}
_TEXT |= {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 3]}}
_SEEN: dict[str, Any] = {"depth": 3, "num_heads": 2, "patch_size": 4}
_WHOLE: dict[str, Any] = {"text_config": _TEXT, "image_token_id": IMAGE, "video_token_id": VIDEO}
_QWEN2: dict[str, Any] = {**_WHOLE, "vision_config": {**_SEEN, "embed_dim": 32, "hidden_size": 48, "mlp_ratio": 2}}
_QWEN25: dict[str, Any] = {
    **_WHOLE,
    "vision_config": {
        **_SEEN,
        "hidden_size": 32,
        "out_hidden_size": 48,
        "intermediate_size": 40,
        "window_size": 16,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 3,
    },
}
CASES = {
    "qwen2_vl": Case("Qwen2VLConfig", "Qwen2VLForConditionalGeneration", _QWEN2, _answers),
    "qwen2_vl, tied": Case(
        "Qwen2VLConfig", "Qwen2VLForConditionalGeneration", {**_QWEN2, "tie_word_embeddings": True}, _answers
    ),
    "qwen2_5_vl": Case("Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration", _QWEN25, _answers),
}
