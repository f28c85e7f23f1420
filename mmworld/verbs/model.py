"""The model that a verb is given, by name or at hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from mmworld.errors import UsageError
from mmworld.models.message import Assistant, Message
from mmworld.models.zoo import conversation, load
from mmworld.nn.state import KVState
from mmworld.text.decoder import Decoder
from mmworld.types import Takes
from mmworld.weights.quantise import Bits


def loaded(model: Any, device: str = "cpu", dtype: torch.dtype = torch.float32, quantise: Bits | None = None) -> Any:
    """A model by its name or folder, the last one kept; anything else is returned as it is."""
    return _loaded(os.fspath(model), device, dtype, quantise) if isinstance(model, str | os.PathLike) else model


def assistant(model: Any) -> Assistant:
    """The model as one that can be shown something and asked; UsageError, with those that can, if it is none."""
    if isinstance(model, Decoder):
        return Words(model)
    return cast(Assistant, able(model, "begin", "be shown something and tell of it", "caption", "ask", "transcribe"))


def able(model: Any, method: str, what: str, *tasks: str) -> Any:
    """The model, if it has the method; UsageError, with the systems of those tasks, if not."""
    if not hasattr(model, method):
        from mmworld.models.systems import SYSTEMS

        can = [s.name for s in SYSTEMS if any(task in s.task for task in tasks)]
        raise UsageError(f"a {type(model).__name__} cannot {what}", hint=f"these can: {', '.join(can)}")
    return model


class Words:
    """A language model as an assistant that is shown nothing."""

    takes: ClassVar[Takes] = Takes(())

    def __init__(self, model: Any) -> None:
        self.model, self.tokenizer, self.read = model, model.tokenizer, model.read

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        return conversation.start(self.model, messages)


@lru_cache(maxsize=1)
def _loaded(model: str, device: str, dtype: torch.dtype, quantise: Bits | None) -> Any:
    return load(model, device, dtype, quantise=quantise)
