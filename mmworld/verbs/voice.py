"""A voice as a file: the speaker embedding that a speech model speaks in."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmworld.errors import CheckpointError, MediaError
from mmworld.media.npy import read_header, record_blocks
from mmworld.weights.checkpoint import load_safetensors

MAX_BYTES = 1 << 20


def read_voice(path: str | os.PathLike[str], size: int) -> Tensor:
    """The embedding [size] in a .npy file, or the only tensor of a .safetensors file.

    Raises:
        MediaError: there is no such file, or it holds something else.
    """
    path = Path(path)
    try:
        if (n := path.stat().st_size) > MAX_BYTES:
            raise MediaError("limit", f"{path}: {n} bytes, the limit for a voice is {MAX_BYTES}")
        found = _safetensors(path) if path.suffix == ".safetensors" else _npy(path)
    except OSError as e:
        raise MediaError("missing", f"{path}: {e.strerror}") from None
    return checked(found, size, str(path))


def checked(voice: Tensor, size: int, name: str) -> Tensor:
    """The voice as float32 [size]; MediaError if it is none."""
    if voice.numel() != size or max(voice.shape, default=0) != size:
        raise MediaError("shape", f"{name}: shape {list(voice.shape)}, a voice of this model is {size} floats")
    if not voice.is_floating_point() or not bool(voice.isfinite().all()) or not bool(voice.any()):
        raise MediaError("values", f"{name}: a voice is floats, finite and not all zero")
    return voice.float().flatten()


def _npy(path: Path) -> Tensor:
    with path.open("rb") as file:
        header = read_header(file, str(path), path.stat().st_size)
        if header.dtype.kind != "f":
            raise MediaError("format", f"{path}: an array of {header.dtype}, a voice is floats")
        rows = list(record_blocks(file, str(path), header, MAX_BYTES))
    return torch.from_numpy(np.concatenate(rows).astype(np.float32) if rows else np.empty(0, np.float32))


def _safetensors(path: Path) -> Tensor:
    try:
        tensors = load_safetensors(path)
    except CheckpointError as e:
        raise MediaError("format", str(e)) from None
    if len(tensors) != 1:
        raise MediaError("format", f"{path}: {len(tensors)} tensors, a voice is one")
    return next(iter(tensors.values()))
