"""What of a borrowed model encodes things into tokens, so that it can be a part of another."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import nn

from mmworld.config import pick
from mmworld.errors import ConfigError, UsageError
from mmworld.modalities.audio.whisper import WhisperConfig, WhisperEncoder
from mmworld.modalities.pointcloud.pointbert import PointBert, PointBertConfig
from mmworld.registry import Registry

WITHIN = {"clip": "vision_config", "siglip": "vision_config"}
"""Families whose encoder of pictures has a config of its own in theirs."""
KINDS = Registry(
    "encoder",
    {
        "audio-spectrogram-transformer": "mmworld.modalities.audio.ast:AST",
        "clip_vision_model": "mmworld.vision.clip:ClipVision",
        "dinov2": "mmworld.vision.dinov2:DINOv2",
        "dinov2_with_registers": "mmworld.vision.dinov2:DINOv2",
        "siglip_vision_model": "mmworld.vision.clip:SiglipVision",
        "timesformer": "mmworld.modalities.video.timesformer:TimeSformer",
        "videomae": "mmworld.modalities.video.tubelets:VideoMAE",
        "vit": "mmworld.vision.vit:ViT",
        "vivit": "mmworld.modalities.video.tubelets:ViViT",
    },
)
"""Families that are encoders, by model type."""
POINTS = "point-bert"


def part(model: Any) -> tuple[dict[str, Any], nn.Module]:
    """The config and the module of what encodes in a model; UsageError if nothing in it gives tokens of things."""
    if isinstance(model, PointBert):
        return {"model_type": POINTS, **asdict(model.config)}, model
    source = dict(getattr(model, "source", {}))
    kind = str(source.get("model_type"))
    if kind in WITHIN:
        return {"model_type": f"{kind}_vision_model", **source[WITHIN[kind]]}, model.vision
    if kind == "whisper":
        return source, model.encoder
    if kind in KINDS:
        return source, model
    raise UsageError(
        f"a {type(model).__name__} encodes nothing for another", hint=f"known: {', '.join(KINDS)}, whisper"
    )


def build(source: dict[str, Any]) -> nn.Module:
    """The encoder of a config, without weights; ConfigError if the type is not known."""
    kind = str(source.get("model_type"))
    if kind == "whisper":
        return WhisperEncoder(pick(WhisperConfig, source, where="config.json"))
    if kind == POINTS:
        return PointBert(pick(PointBertConfig, source, where="config.json"))
    encoder: nn.Module = KINDS.get(kind)(source)
    return encoder


def width(source: dict[str, Any]) -> int:
    """Of its tokens."""
    for name in ("hidden_size", "d_model", "trans_dim"):
        if name in source:
            return int(source[name])
    raise ConfigError(f"the encoder {source.get('model_type')} does not say how wide its tokens are")
