"""Every system that is built here gives transformers' numbers, and what it saves transformers reads whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from borrowed import check_saved

import mmworld
from mmworld.models.systems import SYSTEMS
from mmworld.models.zoo import FAMILIES
from mmworld.models.zoo.parity import CASES, EQUATIONS, LIMIT, Case
from mmworld.models.zoo.parity.case import both, error, largest
from mmworld.weights.checkpoint import save_tensors
from mmworld.weights.shards import Shards


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_gives_what_the_reference_gives(case: Case) -> None:
    assert error(case) <= LIMIT


IDLE = re.compile(
    r"vision\.(backbone\.)?norm\.|vision\.backbone\.layers\.2\.|vision\.head\.|postnet\.ends"
    r"|qformer\.backbone\.layers\.2\.\w+_words"
)
"""Weights without a part: what follows the layer that is looked at (LLaVA, Idefics, InstructBLIP), and what says
whether a frame is the last one (see test_speecht5)."""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_weight_has_a_part_in_what_is_compared(case: Case, tmp_path: Path) -> None:
    """An error of 0 is of two models that do the same, not of none that do anything."""
    ours, theirs = both(case, tmp_path)
    ours.requires_grad_(True)
    draws = torch.Generator().manual_seed(0)
    sums = [(x * torch.randn(x.shape, generator=draws)).sum() for x, _ in case.compare(ours, theirs) if x.requires_grad]
    torch.stack(sums).sum().backward()
    idle = [n for n, p in ours.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [n for n in idle if not IDLE.match(n)]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_saved_the_reference_reads_whole(case: Case, tmp_path: Path) -> None:
    check_saved(case, tmp_path)


RELEASED = {
    "gpt2": {"transformer.": ""},
    "opt": {"model.decoder.": "decoder."},
    "bert, masked": {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"},
    "clip_vision_model": {"": "vision_model."},
    "qwen2_audio": {
        "language_model.model.": "model.language_model.",
        "language_model.lm_head.": "lm_head.",
        "audio_tower.": "model.audio_tower.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    },
    "qwen2_vl": {"model.": "model.language_model.", "visual.": "model.visual."},
    "llava_next_video, conv": {
        "language_model.model.": "model.language_model.",
        "language_model.lm_head.": "lm_head.",
        "vision_tower.": "vision_tower.vision_model.",
        "multi_modal_projector.": "model.multi_modal_projector.",
        "image_newline": "model.image_newline",
        "model.vision_resampler.": "vision_resampler.",
    },
}
"""Names in checkpoints as they were released, where transformers has come to save others."""


@pytest.mark.parametrize("name", RELEASED)
def test_names_as_they_were_released_are_read(name: str, tmp_path: Path) -> None:
    ours, _ = both(CASES[name], tmp_path)
    whole = dict(Shards(tmp_path))
    (tmp_path / "model.safetensors.index.json").unlink()
    for now, then in RELEASED[name].items():
        whole = {then + n if not now else n.replace(now, then): x for n, x in whole.items()}
    save_tensors(whole, tmp_path / "model.safetensors")
    again = mmworld.load(tmp_path).state_dict()
    assert all(torch.equal(again[n], x) for n, x in ours.state_dict().items())


def test_every_model_type_stands_in_the_table_and_is_compared() -> None:
    types = [t for system in SYSTEMS for t in system.types]
    by_hand = {t for system in SYSTEMS if system.name in EQUATIONS for t in system.types}
    assert (
        sorted(types) == sorted({*FAMILIES} - {"composed"}) == sorted({name.split(",")[0] for name in CASES} | by_hand)
    )
    assert {s.name for s in SYSTEMS if not s.types} <= EQUATIONS.keys() <= {s.name for s in SYSTEMS}


@pytest.mark.parametrize("name", EQUATIONS)
def test_it_gives_what_the_paper_s_equations_give(name: str) -> None:
    assert largest(EQUATIONS[name]()) <= LIMIT
