"""Any state made of dataclasses as named leaves, and back: how a session's memory is counted and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from mmworld.errors import CheckpointError


def leaves(state: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(name, value) of every tensor and plain value in `state`.

    A dataclass is its fields, an object with `tensors()` is what that gives; all else is a leaf.
    """
    if hasattr(state, "tensors"):
        yield from ((f"{path}.{name}", x) for name, x in state.tensors().items())
    elif is_dataclass(state):
        for f in fields(state):
            yield from leaves(getattr(state, f.name), f"{path}.{f.name}")
    else:
        yield path, state


def restore(like: Any, values: Mapping[str, Any], path: str) -> Any:
    """The state whose leaves are `values`; `like`, a fresh one, tells the types.

    Raises:
        CheckpointError: a leaf is missing.
    """
    if hasattr(like, "tensors"):
        prefix = f"{path}."
        return type(like).from_tensors({n.removeprefix(prefix): x for n, x in values.items() if n.startswith(prefix)})
    if is_dataclass(like) and not isinstance(like, type):
        own = {f.name: restore(getattr(like, f.name), values, f"{path}.{f.name}") for f in fields(like)}
        return replace(like, **own)
    if path not in values:
        raise CheckpointError(f"a saved state without {path}")
    value = values[path]
    return tuple(value) if isinstance(value, list) else value


def nbytes(state: Any) -> int:
    """Bytes of all tensors in `state`."""
    if hasattr(state, "nbytes"):
        return int(state.nbytes)
    return sum(nbytes(getattr(state, f.name)) for f in fields(state)) if is_dataclass(state) else 0
