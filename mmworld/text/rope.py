"""Rotary positions as a checkpoint's config.json describes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmworld.errors import ConfigError
from mmworld.nn.position import Rotary


def rotary(head_dim: int, config: Mapping[str, Any]) -> Rotary:
    """The rotation that `rope_parameters` of config.json asks for, or `rope_theta` and `rope_scaling` of older ones.

    Raises:
        ConfigError: the kind of scaling is not known here, or lacks a number.
    """
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = given.get("rope_type", given.get("type", "default"))
    try:
        theta = float(given.get("rope_theta", config.get("rope_theta", 10_000.0)))
        scaling = SCALINGS[kind](given)
    except KeyError as e:
        raise ConfigError(f"rotary positions {dict(given)}: {e.args[0]!r} is unknown or missing") from None
    return Rotary(head_dim, theta, scaling, tuple(given.get("mrope_section", ())))


class Linear:
    """Positions pressed together (Chen et al. 2023, eq. 4)."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.factor = float(given["factor"])

    def __call__(self, frequencies: Tensor) -> Tensor:
        return frequencies / self.factor


class Llama3:
    """Long wavelengths pressed together, short ones left, those between in between (LLaMA 3.1's released code)."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.factor, self.original = float(given["factor"]), float(given["original_max_position_embeddings"])
        self.low, self.high = float(given["low_freq_factor"]), float(given["high_freq_factor"])

    def __call__(self, frequencies: Tensor) -> Tensor:
        turns = self.original * frequencies / (2 * math.pi)  # of each over the context it was trained on
        kept = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return torch.lerp(frequencies / self.factor, frequencies, kept)


SCALINGS: dict[str, Callable[[Mapping[str, Any]], Callable[[Tensor], Tensor] | None]] = {
    "default": lambda _: None,
    "mrope": lambda _: None,
    "linear": Linear,
    "llama3": Llama3,
}
