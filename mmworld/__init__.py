"""mmworld: a streaming multimodal toolkit. Public names are imported when first used."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Chunk": "mmworld.types",
    "Tokens": "mmworld.types",
    "Caption": "mmworld.types",
    "Mask": "mmworld.attention",
    "caption": "mmworld.verbs.caption",
    "stream": "mmworld.verbs.caption",
    "recall": "mmworld.verbs.watch",
    "watch": "mmworld.verbs.watch",
    "Crowd": "mmworld.models.crowd",
    "transcribe": "mmworld.verbs.transcribe",
    "speak": "mmworld.verbs.speak",
    "ask": "mmworld.verbs.ask",
    "Conversation": "mmworld.verbs.ask",
    "embed": "mmworld.verbs.embed",
    "match": "mmworld.verbs.embed",
    "classify": "mmworld.verbs.classify",
    "ground": "mmworld.verbs.ground",
    "load": "mmworld.models.zoo",
    "World": "mmworld.models.world",
    "Session": "mmworld.models.session",
    "Keep": "mmworld.models.keep",
    "Economy": "mmworld.stream.economy",
    "Captioner": "mmworld.models.captioner",
    "check_modality": "mmworld.models.modality",
    "AtEnd": "mmworld.stream.policy",
    "Every": "mmworld.stream.policy",
    "OnChange": "mmworld.stream.policy",
    "OnDemand": "mmworld.stream.policy",
    "AsTrained": "mmworld.models.speakhead",
    "AtSilence": "mmworld.modalities.audio.silence",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mmworld' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
