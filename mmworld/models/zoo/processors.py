"""How what is shown to a borrowed model is prepared, as its preprocessor_config.json says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmworld.registry import Registry
from mmworld.weights.checkpoint import write_atomic
from mmworld.weights.shards import read_json

FILES = "video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json"
PARTS = {"image_processor": "image", "video_processor": "video", "feature_extractor": "audio"}
"""Of a processor_config.json: what is said there of each modality."""
PICTURES = ("Bit", "Blip", "CLIP", "ConvNext", "Idefics", "InstructBlipVideo", "Siglip", "ViT", "VideoMAE")
FILMS = "InstructBlipVideo", "LlavaNextVideo", "LlavaOnevision", "Timesformer", "VideoMAE"
PROCESSORS = Registry(
    "processor",
    {
        **{f"{name}Image": "mmworld.vision.preprocess:Preprocess" for name in PICTURES},
        "VivitImage": "mmworld.vision.preprocess:Centred",
        "EfficientNetImage": "mmworld.vision.efficientnet:Scaling",
        "AST": "mmworld.modalities.audio.preprocess:ASTFeatures",
        "Clap": "mmworld.modalities.audio.clap:ClapFeatures",
        "SpeechT5": "mmworld.modalities.audio.preprocess:SpeechT5Features",
        "Whisper": "mmworld.modalities.audio.preprocess:WhisperFeatures",
        **{f"{name}Image": "mmworld.vision.split:Splitting" for name in ("Idefics3", "SmolVLM")},
        "SmolVLMVideo": "mmworld.vision.split:Splitting",
        "Qwen2VLImage": "mmworld.vision.budget:PictureBudget",
        "Qwen2VLVideo": "mmworld.vision.budget:FilmBudget",
        **{f"{name}Image": "mmworld.vision.tiles:AnyRes" for name in ("LlavaNext", "LlavaOnevision")},
        **{f"{name}Video": "mmworld.vision.preprocess:Frames" for name in FILMS},
    },
)
"""By the type that a file names, without its ending; each has `read(said, where)`. Another type may ask for something
that these would not do."""
_ENDS = {"image_processor": "Processor", "video_processor": "Processor", "feature_extractor": "FeatureExtractor"}
_TYPE = re.compile(r"(\w+?)(?:Processor|FeatureExtractor)(?:Fast|Pil)?")


@dataclass(frozen=True)
class Each:
    """What prepares a film [T, 3, H, W] frame by frame, as pictures."""

    prepare: Any

    def __call__(self, film: Tensor) -> Tensor:
        return torch.stack([self.prepare(frame) for frame in film])


def read(folder: Path) -> dict[str, Any]:
    """What a checkpoint's folder says of each modality that it is shown: "image", "video", "audio"; without those of
    which it says nothing, or asks for what is not built here.

    Raises:
        CheckpointError: a file is not JSON.
        ConfigError: a value is missing or of the wrong type.
    """
    found: dict[str, Any] = {}
    for modality, (name, said, path) in _known(folder).items():
        prepare = PROCESSORS.get(name).read(said, str(path))
        found[modality] = Each(prepare) if modality == "video" and name.endswith("Image") else prepare
    return found


def of(found: Mapping[str, Any], modality: str) -> Any:
    """What prepares things of a modality for a model that is shown nothing else; None if nothing does. A film's frames
    are pictures where only of these is something said."""
    pictures = modality == "video" and "video" not in found and "image" in found
    return Each(found["image"]) if pictures else found.get(modality)


def _known(folder: Path) -> dict[str, tuple[str, dict[str, Any], Path]]:
    """Of each modality the type of what prepares it, as far as it is built here, what is said of it, and where."""
    found: dict[str, tuple[str, dict[str, Any], Path]] = {}
    for path, said in _said(folder):
        for modality, name in _named(said):
            if name in PROCESSORS:
                found.setdefault(modality, (name, said, path))
    return found


def _said(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What the files say, as wholes and in parts."""
    for path in (folder / name for name in FILES):
        if path.is_file():
            data = read_json(path)
            yield path, data
            yield from ((path, data[part]) for part in PARTS if isinstance(data.get(part), dict))


def _named(said: dict[str, Any]) -> list[tuple[str, str]]:
    """Modalities and types. Old files call a picture's processor a feature extractor, without saying of what; a film's
    one of images, or nothing, where it does with frames what is done with pictures."""
    out = []
    for part, modality in PARTS.items():
        if (match := _TYPE.fullmatch(str(said.get(f"{part}_type")))) is not None:
            name = match[1]
            old = modality == "audio" and f"{name}Image" in PROCESSORS
            film = modality == "image" and name.endswith("Video")
            out.append(("image", f"{name}Image") if old else ("video" if film else modality, name))
    alike = said.get("processor_class") == "LlavaNextVideoProcessor" and "size" in said
    return [*out, ("video", "LlavaNextVideoVideo")] if alike else out


def gather(folders: Mapping[str, Path], into: Path) -> None:
    """Write what these folders say of a modality each, as `of` finds it, into one processor_config.json.

    Raises:
        ResourceError: the disk is full or the folder may not be written.
    """
    whole: dict[str, Any] = {}
    for part, modality in PARTS.items():
        if modality not in folders:
            continue
        known = _known(folders[modality])
        if found := known.get(modality) or (known.get("image") if modality == "video" else None):
            name, said, _ = found
            sizes = {key: value for key, value in said.items() if key.removesuffix("_type") not in PARTS}
            whole[part] = {**sizes, f"{part}_type": f"{name}{_ENDS[part]}"}
    if whole:
        write_atomic(into / "processor_config.json", json.dumps(whole, indent=1).encode())
