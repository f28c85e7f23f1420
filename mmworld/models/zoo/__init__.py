"""`mmworld.load`: our own models, and checkpoints of others by the model type that their config.json names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmworld.errors import CheckpointError, ConfigError, UsageError
from mmworld.models import load as own
from mmworld.models.zoo import processors
from mmworld.registry import Registry
from mmworld.text.pretrained import GENERATION, Pretrained
from mmworld.weights import hub, shards
from mmworld.weights.keymap import KeyMap
from mmworld.weights.quantise import Bits, Quantiser, floats

FAMILIES = Registry(
    "model type",
    {
        "align": "mmworld.models.zoo.align:ALIGN",
        "audio-spectrogram-transformer": "mmworld.modalities.audio.ast:AST",
        "bert": "mmworld.text.bert:Bert",
        "blip": "mmworld.models.zoo.blip:blip",
        "blip-2": "mmworld.models.zoo.blip2:blip2",
        "clap": "mmworld.models.zoo.clap:CLAP",
        "clip": "mmworld.models.zoo.clip:CLIP",
        "clip_vision_model": "mmworld.vision.clip:ClipVision",
        "composed": "mmworld.models.zoo.composed:Composed",
        "dinov2": "mmworld.vision.dinov2:DINOv2",
        "dinov2_with_registers": "mmworld.vision.dinov2:DINOv2",
        "efficientnet": "mmworld.vision.efficientnet:EfficientNet",
        "flamingo": "mmworld.models.zoo.flamingo:Flamingo",
        "gpt2": "mmworld.text.gpt2:GPT2",
        "hifigan": "mmworld.modalities.audio.hifigan:HifiGan",
        "idefics": "mmworld.models.zoo.idefics:Idefics",
        "idefics3": "mmworld.models.zoo.idefics3:Idefics3",
        "instructblip": "mmworld.models.zoo.instructblip:InstructBLIP",
        "instructblipvideo": "mmworld.models.zoo.instructblip:InstructBLIPVideo",
        "kosmos-2": "mmworld.models.zoo.kosmos2:Kosmos2",
        "llama": "mmworld.text.llama:Llama",
        "llava": "mmworld.models.zoo.llava:LLaVA",
        "llava_next": "mmworld.models.zoo.llava_next:LLaVANext",
        "llava_next_video": "mmworld.models.zoo.llava_next:LLaVANextVideo",
        "llava_onevision": "mmworld.models.zoo.llava_onevision:LLaVAOneVision",
        "mistral": "mmworld.text.llama:Llama",
        "opt": "mmworld.text.opt:OPT",
        "pointllm": "mmworld.models.zoo.pointllm:PointLLM",
        "qwen2": "mmworld.text.llama:Llama",
        "qwen2_5_vl": "mmworld.models.zoo.qwen_vl:QwenVL",
        "qwen2_audio": "mmworld.models.zoo.qwen2_audio:Qwen2Audio",
        "qwen2_vl": "mmworld.models.zoo.qwen_vl:QwenVL",
        "qwen3": "mmworld.text.llama:Llama",
        "resnet": "mmworld.vision.resnet:ResNet",
        "show_and_tell": "mmworld.models.zoo.show_and_tell:ShowAndTell",
        "siglip": "mmworld.models.zoo.clip:SigLIP",
        "siglip_vision_model": "mmworld.vision.clip:SiglipVision",
        "speecht5": "mmworld.models.zoo.speecht5:speecht5",
        "speecht5_hifigan": "mmworld.modalities.audio.hifigan:HifiGan",
        "smolvlm": "mmworld.models.zoo.idefics3:SmolVLM",
        "t5": "mmworld.text.t5:T5",
        "timesformer": "mmworld.modalities.video.timesformer:TimeSformer",
        "videoclip": "mmworld.models.zoo.videoclip:VideoCLIP",
        "videomae": "mmworld.modalities.video.tubelets:VideoMAE",
        "vilbert": "mmworld.models.zoo.vilbert_tasks:vilbert",
        "visual_bert": "mmworld.models.zoo.visualbert:VisualBERT",
        "vit": "mmworld.vision.vit:ViT",
        "vivit": "mmworld.modalities.video.tubelets:ViViT",
        "whisper": "mmworld.models.zoo.whisper.model:Whisper",
        "xclip": "mmworld.models.zoo.xclip:XCLIP",
    },
)
"""The model types of config.json that are built here."""


class Borrowed(Protocol):
    """A module built from a config.json.

    Attributes:
        source: what config.json said.
        keymap: where each of its tensors stands in the checkpoint.
        tokenizer: its vocabulary, if the folder has one.
        processors: how what it is shown is prepared, by modality, as far as the folder says.
        generation: what its generation_config.json says.
        folder: where it was read from.
    """

    source: dict[str, Any]
    tokenizer: Pretrained | None
    processors: Mapping[str, Any]
    generation: Mapping[str, Any]
    folder: Path

    @property
    def keymap(self) -> KeyMap: ...

    def state_dict(self) -> Mapping[str, Tensor]: ...


def load(
    name: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    quantise: Bits | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> nn.Module:
    """The model `name`, ready to use: a shipped one, a folder that `World.save` wrote, one with a config.json, or the
    name of such a one on the hub.

    Weights are read a tensor at a time, so that little more than the model is ever held.

    Args:
        dtype: of the weights, where a config.json is read; our own models are float32.
        quantise: "int8" or "int4" for the weights of linear layers, each rounded as soon as it is read
            (`mmworld.weights.quantise`); all else, and what is computed, is of `dtype`.
        revision, token: of a model on the hub, see `mmworld.weights.hub.fetch`.

    Raises:
        UsageError: a model on the hub needs huggingface-hub, or `quantise` torchao; our own models have no few bits.
        CheckpointError: there is no such model, its type is not known, or its files are damaged, cut, of another shape
            than config.json says, or name what has no place here.
    """
    folder = find(name, revision=revision, token=token)
    if not (folder / shards.CONFIG).is_file():
        if quantise is not None:
            raise UsageError(f"{name} has no weights of {quantise}: it is a model of ours, and those are float32")
        return own.load(folder, device)
    rounding = None if quantise is None else Quantiser(quantise, device, dtype)
    config = folder / shards.CONFIG
    source, tensors = shards.read_json(config), shards.Shards(folder)
    try:
        family = FAMILIES.get(str(source.get("model_type")))
        with torch.device("meta"):
            model: Any = family(source)
    except ConfigError as e:
        raise CheckpointError(f"{config}: {e}") from None
    model.keymap.check(model, tensors.shapes, where=str(folder))
    model.to(dtype)
    model.keymap.fill(model, tensors, where=str(folder), device=device, done=rounding)
    if rounding is not None:
        rounding.tell(str(folder))
    model.folder = folder
    model.tokenizer = Pretrained.load(folder, getattr(model, "ends", None))
    model.processors = getattr(model, "prepares", {}) | processors.read(folder)
    model.generation = shards.read_json(said) if (said := folder / GENERATION).is_file() else {}
    return model.eval().requires_grad_(False)


def find(name: str | os.PathLike[str], *, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a model, downloaded if it is on the hub; arguments and errors as of `load`."""
    remote = not Path(name).exists() and hub.ID.fullmatch(str(name))
    return hub.fetch(str(name), revision=revision, token=token) if remote else own.find(name)


def save(model: Borrowed, folder: Path | str, *, shard: int = shards.SHARD_BYTES) -> None:
    """Write a folder that `load` and transformers read: config.json, and weights in files of at most `shard` bytes;
    those of int8 as the floats that they stand for.

    Raises:
        UsageError: the model has weights of int4, which are not given back.
        ResourceError: the disk is full or the folder may not be written.
    """
    tensors = model.keymap.theirs(floats(model.state_dict()))
    (dtype,) = {x.dtype for x in tensors.values() if x.is_floating_point()}
    shards.write(folder, {**model.source, "dtype": str(dtype).removeprefix("torch.")}, tensors, shard)
