"""How what is shown to a borrowed model is prepared, as its preprocessor_config.json says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
_TYPE = re.compile(r"(\w+?)(?:Processor|FeatureExtractor)(?:Fast|Pil)?")


def read(folder: Path) -> dict[str, Any]:
    """What a checkpoint's folder says of each modality that it is shown: "image", "video", "audio"; without those of
    which it says nothing, or asks for what is not built here.

    Raises:
        CheckpointError: a file is not JSON.
        ConfigError: a value is missing or of the wrong type.
    """
    found: dict[str, Any] = {}
    for modality, name, said, path in _said(folder):
        if name in PROCESSORS and modality not in found:
            found[modality] = PROCESSORS.get(name).read(said, str(path))
    return found


def own(found: Mapping[str, Any], modality: str) -> Any:
    """What of these is of a modality, or None: where nothing is of films, they are prepared as pictures are."""
    return found.get(modality, found.get("image") if modality == "video" else None)


def _said(folder: Path) -> Iterator[tuple[str, str, dict[str, Any], Path]]:
    """Modalities and types, and what the files say of them, as wholes and in parts."""
    for path in (folder / name for name in FILES):
        if path.is_file():
            whole = read_json(path)
            for part, said in (("", whole), *((p, whole[p]) for p in PARTS if isinstance(whole.get(p), dict))):
                for modality, name in _named(said):
                    yield "video" if part == "video_processor" else modality, name, said, path


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
    """Write what these folders say of a modality each into one processor_config.json.

    Raises:
        ResourceError: the disk is full or the folder may not be written.
    """
    parts, whole = {modality: part for part, modality in PARTS.items()}, {}
    for modality, folder in folders.items():
        found = {of: said for of, _, said, _ in reversed(list(_said(folder)))}  # the first that is said holds
        if (said := own(found, modality)) is not None:
            whole[parts[modality]] = said
    if whole:
        write_atomic(into / "processor_config.json", json.dumps(whole, indent=1).encode())
