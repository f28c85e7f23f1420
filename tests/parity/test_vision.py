"""Picture encoders from checkpoint folders that transformers wrote give its numbers, and are read back by it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from borrowed import Case, both, check, check_saved
from safetensors.torch import load_file, save_file

import mmworld

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 4}
VIT = {**SIZES, "intermediate_size": 48}
RESNET = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 2]}
NAMES = {"id2label": {0: "cat", 1: "dog", 2: "owl"}}
CASES = {
    "vit": Case("ViT", "ViTModel", VIT),
    "vit, classes": Case("ViT", "ViTForImageClassification", VIT | NAMES),
    "clip": Case("CLIPVision", "CLIPVisionModel", VIT),
    "clip, projected": Case("CLIPVision", "CLIPVisionModelWithProjection", {**VIT, "projection_dim": 24}),
    "siglip": Case("SiglipVision", "SiglipVisionModel", VIT),
    "dinov2": Case("Dinov2", "Dinov2Model", SIZES),
    "dinov2, gated": Case("Dinov2", "Dinov2Model", {**SIZES, "use_swiglu_ffn": True}),
    "dinov2, registers": Case("Dinov2WithRegisters", "Dinov2WithRegistersModel", SIZES),
    "resnet": Case("ResNet", "ResNetModel", RESNET),
    "resnet, basic": Case("ResNet", "ResNetModel", {**RESNET, "layer_type": "basic"}),
    "resnet, early": Case("ResNet", "ResNetModel", {**RESNET, "downsample_in_bottleneck": True}),
    "resnet, classes": Case("ResNet", "ResNetForImageClassification", RESNET | NAMES),
}


def pixels(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_encoder_sees_what_the_reference_sees(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    told = theirs(pixels(16, 16))
    x = ours(pixels(16, 16))
    if "last_hidden_state" in told and told.last_hidden_state is not None:
        check(x, told.last_hidden_state)
    for name in ("pooler_output", "image_embeds", "logits"):
        if (pooled := told.get(name)) is not None:
            check(ours.pool(x), pooled.flatten(1))


@torch.no_grad()
@pytest.mark.parametrize("name", ["dinov2", "dinov2, registers"])
@pytest.mark.parametrize("size", [(24, 12), (8, 8), (18, 16)])
def test_places_lie_between_those_learned(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    ours, theirs = both(CASES[name], tmp_path)
    check(ours(pixels(*size)), theirs(pixels(*size)).last_hidden_state)


@torch.no_grad()
def test_pictures_do_not_know_of_each_other(tmp_path: Path) -> None:
    for i, case in enumerate(CASES.values()):
        ours, _ = both(case, tmp_path / str(i))
        check(ours(pixels(16, 16))[1:], ours(pixels(16, 16)[1:]))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_saved_the_reference_reads_whole(case: Case, tmp_path: Path) -> None:
    check_saved(case, tmp_path)


def test_the_names_of_an_encoder_within_a_larger_model_are_read(tmp_path: Path) -> None:
    ours, _ = both(CASES["clip"], tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    for path in (shards := list(tmp_path.glob("model-*.safetensors"))):
        tensors = load_file(path)
        path.unlink()
        save_file({f"vision_model.{n}": x for n, x in tensors.items()}, path)
    whole = {n: x for path in shards for n, x in load_file(path).items()}
    save_file(whole, tmp_path / "model.safetensors")
    again = mmworld.load(tmp_path)
    assert all(torch.equal(x, ours.state_dict()[n]) for n, x in again.state_dict().items())
