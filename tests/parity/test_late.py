"""Models that bring pictures and texts to one space give transformers' numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from borrowed import Case, both, check, check_saved

VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 4}
VISION |= {"intermediate_size": 48}
TEXT = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
TEXT |= {"max_position_embeddings": 12, "bos_token_id": 48, "eos_token_id": 49, "pad_token_id": 1}
SIZES = {"vision_config": VISION, "text_config": TEXT}
CASES = {
    "clip": Case("CLIP", "CLIPModel", {**SIZES, "projection_dim": 20}),
    "siglip": Case("Siglip", "SiglipModel", {**SIZES, "text_config": {**TEXT, "projection_size": 32}}),
}
TEXTS = ((48, 7, 30, 49), (48, 49), (48, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 49))


def padded() -> torch.Tensor:
    return torch.tensor([[*t, *[1] * (12 - len(t))] for t in TEXTS])


@torch.no_grad()
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_pictures_and_texts_lie_where_the_reference_puts_them(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    pixels = torch.randn(2, 3, 16, 16)
    told = theirs(input_ids=padded(), pixel_values=pixels)
    check(ours.embed_pictures(pixels), told.image_embeds)
    check(ours.embed_texts(TEXTS), told.text_embeds)
    check(ours(pixels, TEXTS), told.logits_per_image)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_saved_the_reference_reads_whole(case: Case, tmp_path: Path) -> None:
    check_saved(case, tmp_path)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_texts_without_room_are_refused(case: Case, tmp_path: Path) -> None:
    ours, _ = both(case, tmp_path)
    with pytest.raises(ValueError, match="the model has learned"):
        ours.embed_texts([range(3, 16)])
    if case.kind == "CLIP":
        with pytest.raises(ValueError, match="without ids"):
            ours.embed_texts([(48, 49), ()])
