"""Models that see pictures in squares."""

from __future__ import annotations

from typing import Any

from mmworld.models.zoo.parity.case import Case, Pairs, noise
from mmworld.models.zoo.parity.joint import SEEN, TOLD, asked


def _looks(ours: Any, theirs: Any) -> Pairs:
    text, pictures = asked(3, 4), noise(3, 3, 16, 16)
    yield ours(text, pictures), theirs(text, pixel_values=pictures[None]).logits
    yield ours(text[:, :3]), theirs(text[:, :3]).logits


_SQUARES: dict[str, Any] = {
    "vision_config": {**SEEN, "image_size": 16},
    "text_config": {**TOLD, "model_type": "llama"},
    "image_token_id": 49,
}
CASES = {
    "idefics3": Case("Idefics3Config", "Idefics3ForConditionalGeneration", _SQUARES, _looks),
    "idefics3, tied": Case(
        "Idefics3Config", "Idefics3ForConditionalGeneration", {**_SQUARES, "tie_word_embeddings": True}, _looks
    ),
    "smolvlm": Case("SmolVLMConfig", "SmolVLMForConditionalGeneration", _SQUARES, _looks),
}
