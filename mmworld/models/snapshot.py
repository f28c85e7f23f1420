"""Any state made of dataclasses as named leaves, and back: how a session's memory is counted and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import count, takewhile
from typing import Any

from torch import Tensor

from mmworld.errors import CheckpointError


def leaves(state: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(name, value) of each tensor and plain value in `state`; dataclasses and lists are walked, the rest are leaves."""
    if is_dataclass(state):
        for f in fields(state):
            yield from leaves(getattr(state, f.name), f"{path}.{f.name}")
    elif isinstance(state, list):
        for i, value in enumerate(state):
            yield from leaves(value, f"{path}.{i}")
    else:
        yield path, state


def restore(like: Any, values: Mapping[str, Any], path: str) -> Any:
    """The state whose leaves are `values`; `like`, a fresh one, tells the types. Lists hold leaves only.

    Raises:
        CheckpointError: a leaf is missing.
    """
    if is_dataclass(like) and not isinstance(like, type):
        return replace(
            like, **{f.name: restore(getattr(like, f.name), values, f"{path}.{f.name}") for f in fields(like)}
        )
    if isinstance(like, list):
        return [values[name] for name in _present(values, path)]
    if path not in values:
        raise CheckpointError(f"a saved state without {path}")
    value = values[path]
    return tuple(value) if isinstance(value, list) else value


def _present(values: Mapping[str, Any], path: str) -> Iterator[str]:
    return takewhile(values.__contains__, (f"{path}.{i}" for i in count()))


def nbytes(state: Any) -> int:
    """Bytes of all tensors in `state`."""
    return sum(x.nbytes for _, x in leaves(state, "") if isinstance(x, Tensor))
