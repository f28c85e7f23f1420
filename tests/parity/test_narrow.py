"""Every system runs in half precision, and gives the same numbers as far as that goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import mmworld
from mmworld.models.zoo.parity import CASES, Case
from mmworld.models.zoo.parity.case import both

LIMIT = 0.15
"""Of the largest number, with eight bits of it in layers of random weights."""


class Narrow:
    """A model that is given floats in its own dtype, and whose floats come out as float32."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._narrowed(self._model)(*args, **options)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if isinstance(found, nn.Module):
            return Narrow(found, self._dtype)
        return self._narrowed(found) if callable(found) and not isinstance(found, type) else found

    def _narrowed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            args, options = tree_map(lambda x: _to(x, self._dtype), (args, options))
            return tree_map(lambda x: _to(x, torch.float32), call(*args, **options))

        return run


def _to(x: Any, dtype: torch.dtype) -> Any:
    if is_dataclass(x) and not isinstance(x, type):  # a film, a sound
        return replace(x, **{f.name: _to(getattr(x, f.name), dtype) for f in fields(x)})
    return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_it_runs_in_half_precision(name: str, tmp_path: Path) -> None:
    case: Case = CASES[name]
    _, theirs = both(case, tmp_path)
    for dtype in (torch.bfloat16, torch.float16):
        ours = mmworld.load(tmp_path, dtype=dtype)
        assert {p.dtype for p in ours.parameters() if p.is_floating_point()} == {dtype}
        for got, want in case.compare(Narrow(ours, dtype), theirs):
            assert got.isfinite().all()
            assert float((got - want).norm() / want.norm()) <= LIMIT
