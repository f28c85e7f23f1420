"""Encoders of pictures."""

from __future__ import annotations

from typing import Any

from mmworld.models.zoo.parity.case import LAYERS, NAMES, Case, encodes

_sees = encodes(2, 3, 16, 16)
_DINO: dict[str, Any] = {**LAYERS, "image_size": 16, "patch_size": 4}
VIT: dict[str, Any] = {**_DINO, "intermediate_size": 48}
_RESNET: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 2]}
EFFICIENTNET: dict[str, Any] = {"width_coefficient": 0.25, "depth_coefficient": 1.2, "hidden_dim": 320}
EFFICIENTNET |= {"kernel_sizes": [3, 5, 3], "strides": [1, 2, 2], "expand_ratios": [1, 6, 3]}
EFFICIENTNET |= {"in_channels": [32, 16, 40], "out_channels": [16, 40, 48], "num_block_repeats": [1, 2, 1]}
EFFICIENTNET |= {"depthwise_padding": [3]}
CASES = {
    "vit": Case("ViTConfig", "ViTModel", VIT, _sees),
    "vit, classes": Case("ViTConfig", "ViTForImageClassification", VIT | NAMES, _sees),
    "clip_vision_model": Case("CLIPVisionConfig", "CLIPVisionModel", VIT, _sees),
    "clip_vision_model, projected": Case(
        "CLIPVisionConfig", "CLIPVisionModelWithProjection", {**VIT, "projection_dim": 24}, _sees
    ),
    "siglip_vision_model": Case("SiglipVisionConfig", "SiglipVisionModel", VIT, _sees),
    "dinov2": Case("Dinov2Config", "Dinov2Model", _DINO, _sees),
    "dinov2, gated": Case("Dinov2Config", "Dinov2Model", {**_DINO, "use_swiglu_ffn": True}, _sees),
    "dinov2_with_registers": Case("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", _DINO, _sees),
    "efficientnet": Case("EfficientNetConfig", "EfficientNetModel", EFFICIENTNET, _sees),
    "efficientnet, classes": Case(
        "EfficientNetConfig",
        "EfficientNetForImageClassification",
        EFFICIENTNET | NAMES | {"pooling_type": "max"},
        _sees,
    ),
    "resnet": Case("ResNetConfig", "ResNetModel", _RESNET, _sees),
    "resnet, basic": Case("ResNetConfig", "ResNetModel", {**_RESNET, "layer_type": "basic"}, _sees),
    "resnet, early": Case("ResNetConfig", "ResNetModel", {**_RESNET, "downsample_in_bottleneck": True}, _sees),
    "resnet, classes": Case("ResNetConfig", "ResNetForImageClassification", _RESNET | NAMES, _sees),
}
