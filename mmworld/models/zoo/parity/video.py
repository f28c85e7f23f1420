"""Encoders of films."""

from __future__ import annotations

from typing import Any

from mmworld.models.zoo.parity.case import LAYERS, NAMES, Case, encodes

_watches = encodes(2, 4, 3, 16, 16)
_FILM: dict[str, Any] = {**LAYERS, "intermediate_size": 48, "image_size": 16, "num_frames": 4}
CASES = {
    "vivit": Case("VivitConfig", "VivitModel", {**_FILM, "tubelet_size": [2, 4, 4]}, _watches),
    "vivit, classes": Case(
        "VivitConfig", "VivitForVideoClassification", {**_FILM, "tubelet_size": [2, 4, 4], **NAMES}, _watches
    ),
    "videomae": Case("VideoMAEConfig", "VideoMAEModel", {**_FILM, "patch_size": 4}, _watches),
    "videomae, first token": Case(
        "VideoMAEConfig", "VideoMAEModel", {**_FILM, "patch_size": 4, "use_mean_pooling": False}, _watches
    ),
    "videomae, classes": Case(
        "VideoMAEConfig", "VideoMAEForVideoClassification", {**_FILM, "patch_size": 4, **NAMES}, _watches
    ),
}
