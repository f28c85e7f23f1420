"""Any state made of dataclasses as named leaves, and back: how a session's memory is counted and saved."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mmworld.errors import CheckpointError
from mmworld.weights.checkpoint import load_safetensors, read_header, save_tensors

T = TypeVar("T")


def write(path: Path | str, kind: str, values: Mapping[str, Any]) -> None:
    """Write leaves, tensors and plain values, as safetensors; `kind` says what they are of. Raises ResourceError."""
    tensors = {n: x.contiguous() for n, x in values.items() if isinstance(x, Tensor)}
    save_tensors(tensors, path, {kind: json.dumps({n: x for n, x in values.items() if n not in tensors})})


def read(path: Path | str, kind: str, make: Callable[[Mapping[str, Any]], T]) -> T:
    """What `make` makes of the leaves that `write` wrote.

    Raises:
        CheckpointError: the file is damaged, or holds something else.
    """
    about = read_header(path).get("__metadata__", {}).get(kind)
    if about is None:
        raise CheckpointError(f"{path}: holds no {kind}")
    try:
        return make(json.loads(about) | load_safetensors(path))
    except (KeyError, TypeError, ValueError) as e:
        raise CheckpointError(f"{path}: not a whole {kind}: {e}") from None


def on(values: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Leaves with their tensors on a device: what `read` gives lies on the CPU."""
    return {n: x.to(device) if isinstance(x, Tensor) else x for n, x in values.items()}


def leaves(state: Any, path: str) -> dict[str, Any]:
    """Every tensor and plain value in `state`, by name.

    A dataclass is its fields, a dict its items, an object with `tensors()` what that gives, a module nothing, as its
    weights are the model's; all else is a leaf.
    """
    if isinstance(state, nn.Module):
        return {}
    if hasattr(state, "tensors"):
        return {f"{path}.{name}": x for name, x in state.tensors().items()}
    if is_dataclass(state):
        parts = {f.name: getattr(state, f.name) for f in fields(state)}
    elif isinstance(state, dict):
        parts = state
    else:
        return {path: list(state) if isinstance(state, deque) else state}
    return {n: x for name, part in parts.items() for n, x in leaves(part, f"{path}.{name}").items()}


def restore(like: Any, values: Mapping[str, Any], path: str) -> Any:
    """The state whose leaves are `values`; `like`, a fresh one, tells the types.

    Raises:
        CheckpointError: a leaf is missing.
    """
    if isinstance(like, nn.Module):
        return like
    if hasattr(like, "tensors"):
        return type(like).from_tensors(_within(values, path))
    if is_dataclass(like) and not isinstance(like, type):
        own = {f.name: restore(getattr(like, f.name), values, f"{path}.{f.name}") for f in fields(like) if f.init}
        made = replace(like, **own)
        for f in fields(like):
            if not f.init and not like.__dataclass_params__.frozen:  # type: ignore[attr-defined]
                setattr(made, f.name, restore(getattr(like, f.name), values, f"{path}.{f.name}"))
        return made
    if isinstance(like, dict):
        return _within(values, path)
    if path not in values:
        raise CheckpointError(f"a saved state without {path}")
    value = values[path]
    if isinstance(like, deque):
        return deque(value, like.maxlen)
    return tuple(value) if isinstance(value, list) else value


def nbytes(state: Any) -> int:
    """Bytes of all tensors in `state`."""
    if hasattr(state, "nbytes"):
        return int(state.nbytes)
    return sum(nbytes(getattr(state, f.name)) for f in fields(state)) if is_dataclass(state) else 0


def _within(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    return {n.removeprefix(f"{path}."): x for n, x in values.items() if n.startswith(f"{path}.")}
