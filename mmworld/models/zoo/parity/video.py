"""Encoders of films."""

from __future__ import annotations

from typing import Any

from mmworld.models.zoo.parity.case import LAYERS, NAMES, Case, encodes

_watches = encodes(2, 4, 3, 16, 16)
_FILM: dict[str, Any] = {**LAYERS, "intermediate_size": 48, "image_size": 16, "num_frames": 4}
_PATCHED: dict[str, Any] = {**_FILM, "patch_size": 4}
CASES = {
    "timesformer": Case("TimesformerConfig", "TimesformerModel", _PATCHED, _watches),
    "timesformer, joint": Case(
        "TimesformerConfig", "TimesformerModel", {**_PATCHED, "attention_type": "joint_space_time"}, _watches
    ),
    "timesformer, space alone": Case(
        "TimesformerConfig",
        "TimesformerModel",
        {**_PATCHED, "attention_type": "space_only", "qkv_bias": False},
        _watches,
    ),
    "timesformer, classes": Case("TimesformerConfig", "TimesformerForVideoClassification", _PATCHED | NAMES, _watches),
    "vivit": Case("VivitConfig", "VivitModel", {**_FILM, "tubelet_size": [2, 4, 4]}, _watches),
    "vivit, classes": Case(
        "VivitConfig", "VivitForVideoClassification", {**_FILM, "tubelet_size": [2, 4, 4], **NAMES}, _watches
    ),
    "videomae": Case("VideoMAEConfig", "VideoMAEModel", _PATCHED, _watches),
    "videomae, first token": Case("VideoMAEConfig", "VideoMAEModel", {**_PATCHED, "use_mean_pooling": False}, _watches),
    "videomae, classes": Case("VideoMAEConfig", "VideoMAEForVideoClassification", {**_PATCHED, **NAMES}, _watches),
}
