"""Language models that see through a projection say what transformers' say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from borrowed import Case, both, check, check_saved
from safetensors.torch import load_file, save_file
from torch import Tensor

import mmworld

VISION = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 8, "patch_size": 4}
VISION |= {"intermediate_size": 48, "model_type": "clip_vision_model"}
TEXT = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
TEXT |= {"model_type": "llama", "num_key_value_heads": 2, "eos_token_id": None, "pad_token_id": None}
LLAVA = {"vision_config": VISION, "text_config": TEXT, "image_token_index": 49}
SIGLIP = {**VISION, "model_type": "siglip_vision_model"}
CASES = {
    "llava": Case("Llava", "LlavaForConditionalGeneration", LLAVA),
    "llava, last layer": Case("Llava", "LlavaForConditionalGeneration", {**LLAVA, "vision_feature_layer": -1}),
    "llava, siglip and qwen2": Case(
        "Llava",
        "LlavaForConditionalGeneration",
        {
            **LLAVA,
            "vision_config": SIGLIP,
            "text_config": {**TEXT, "model_type": "qwen2"},
            "vision_feature_select_strategy": "full",
        },
    ),
}
SEEN = 4
"""Tokens of a picture."""


def asked(pictures: int) -> Tensor:
    """Ids with places for so many pictures among words."""
    words = torch.randint(3, 49, (pictures + 1, 3), generator=torch.Generator().manual_seed(pictures))
    parts = [p for row in words for p in (row, torch.full((SEEN,), 49))][:-1]
    return torch.cat(parts)[None]


def pixels(n: int) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(n))


@torch.no_grad()
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_says_what_the_reference_says(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    texts = [asked(n) for n in (2, 1, 0)]
    expected = [theirs(t, pixel_values=pixels(n) if n else None).logits for t, n in zip(texts, (2, 1, 0), strict=True)]
    lengths = tuple(t.shape[1] for t in texts)
    packed = ours(torch.cat(texts, dim=1), torch.cat((pixels(2), pixels(1))), lengths=lengths).split(lengths, dim=1)
    for got, want in zip(packed, expected, strict=True):
        check(got, want)


@torch.no_grad()
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_goes_on_as_the_reference_does(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    told = theirs.generate(asked(1), pixel_values=pixels(1), max_new_tokens=32, do_sample=False, pad_token_id=0)
    state, said = ours.init_state(), []
    logits = ours(asked(1), pixels(1), state)
    while len(said) < 32:
        said.append(int(logits[0, -1].argmax()))
        logits = ours(torch.tensor([[said[-1]]]), state=state)
    assert said == told[0, asked(1).shape[1] :].tolist()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_saved_the_reference_reads_whole(case: Case, tmp_path: Path) -> None:
    check_saved(case, tmp_path)


@torch.no_grad()
def test_pictures_fill_their_places(tmp_path: Path) -> None:
    ours, _ = both(CASES["llava"], tmp_path)
    with pytest.raises(ValueError, match="the text has 8 places for tokens of pictures, the pictures give 4"):
        ours(asked(2), pixels(1))


ELSEWHERE = {
    "language_model.model.": "model.language_model.",
    "language_model.lm_head.": "lm_head.",
    "vision_tower.": "model.vision_tower.vision_model.",
    "multi_modal_projector.": "model.multi_modal_projector.",
}


def test_the_names_of_later_versions_are_read(tmp_path: Path) -> None:
    ours, _ = both(CASES["llava"], tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    whole = {n: x for path in tmp_path.glob("model-*.safetensors") for n, x in load_file(path).items()}
    renamed = {to + n.removeprefix(at): x for n, x in whole.items() for at, to in ELSEWHERE.items() if n.startswith(at)}
    assert len(renamed) == len(whole)
    save_file(renamed, tmp_path / "model.safetensors")
    again = mmworld.load(tmp_path)
    assert all(torch.equal(x, ours.state_dict()[n]) for n, x in again.state_dict().items())
