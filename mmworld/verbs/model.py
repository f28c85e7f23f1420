"""The model that a verb is given, by name or at hand."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any, cast

from mmworld.errors import UsageError
from mmworld.models.message import Assistant
from mmworld.models.zoo import load


def loaded(model: Any, device: str = "cpu") -> Any:
    """A model by its name or folder, the last one kept; anything else is returned as it is."""
    return _loaded(os.fspath(model), device) if isinstance(model, str | os.PathLike) else model


def assistant(model: Any) -> Assistant:
    """The model as one that can be shown something and asked; UsageError, with those that can, if it is none."""
    return cast(Assistant, able(model, "begin", "be shown something and tell of it", "caption", "ask", "transcribe"))


def able(model: Any, method: str, what: str, *tasks: str) -> Any:
    """The model, if it has the method; UsageError, with the systems of those tasks, if not."""
    if not hasattr(model, method):
        from mmworld.models.systems import SYSTEMS

        can = [s.name for s in SYSTEMS if any(task in s.task for task in tasks)]
        raise UsageError(f"a {type(model).__name__} cannot {what}", hint=f"these can: {', '.join(can)}")
    return model


@lru_cache(maxsize=1)
def _loaded(model: str, device: str) -> Any:
    return load(model, device)
