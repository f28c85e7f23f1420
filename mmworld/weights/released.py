"""Weights that a paper's authors released as torch wrote them: a pickle, read as tensors and numbers alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from mmworld.errors import CheckpointError
from mmworld.weights.checkpoint import load_pickled
from mmworld.weights.keymap import KeyMap

M = TypeVar("M", bound=nn.Module)


def fill(model: M, path: Path | str, part: str) -> M:
    """`model`, to use as it is, with the weights that the file holds under the name `part`.

    Raises:
        CheckpointError: the file is missing, holds what would be run, or other tensors.
    """
    tensors = load_pickled(path).get(part)
    if not isinstance(tensors, dict):
        raise CheckpointError(f"{path}: holds no {part!r}")
    return filled(model, tensors, where=str(path))


def filled(model: M, tensors: Mapping[str, Tensor], where: str) -> M:
    """`model`, to use as it is, with these weights; CheckpointError if they are other ones."""
    keymap: KeyMap = cast("Any", model).keymap
    keymap.check(model, tensors, where=where)
    keymap.fill(model, tensors, where=where)
    return model.eval().requires_grad_(False)
