"""Every system runs with weights of few bits: they are rounded as is said, and nothing else about it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mmworld
from mmworld.models.zoo.parity import CASES
from mmworld.models.zoo.parity.case import Case, both
from mmworld.weights.quantise import Bits

pytest.importorskip("torchao", reason="the extra 'quantise' is not installed")
TIGHT = 1e-4
"""Of the largest number: float32 that is summed in another order."""


def held(layer: nn.Linear) -> Tensor:
    """The weight that a layer multiplies by, found by what it makes of unit vectors."""
    bias = 0 if layer.bias is None else layer.bias
    return (layer(torch.eye(layer.in_features)) - bias).T


def rounded(w: Tensor, kind: Bits) -> tuple[Tensor, Tensor, Tensor]:
    """Float64 weights as their nearest multiple of a row's largest by 127.5, or the nearest of sixteen steps from the
    least to the most of 32 neighbours; the step of each; and whether it lies halfway, as the largest of a row does."""
    groups = w.unflatten(1, (-1, 32 if kind == "int4" else w.shape[1]))
    low, high = groups.aminmax(dim=2, keepdim=True)
    step = (high - low) / 15 if kind == "int4" else torch.maximum(high, -low) / 127.5
    zero = low if kind == "int4" else torch.zeros_like(low)
    at = (groups - zero) / step
    nearest = at.round() if kind == "int4" else at.round().clamp(-128, 127)
    halfway = (at - at.floor() - 0.5).abs() < 1e-3
    return (nearest * step + zero).flatten(1), step.expand_as(groups).flatten(1), halfway.flatten(1)


def stays(layer: nn.Linear, kind: Bits) -> bool:
    return layer.out_features < 16 if kind == "int8" else bool(layer.in_features % 32 or layer.out_features % 16)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("name", CASES)
def test_it_computes_with_rounded_weights(name: str, kind: Bits, tmp_path: Path) -> None:
    """A float model whose linear layers are given the rounded weights, worked out here in float64, gives the same."""
    case: Case = CASES[name]
    whole, theirs = both(case, tmp_path)
    ours: Any = mmworld.load(tmp_path, quantise=kind)
    assert ours.state_dict().keys() == whole.state_dict().keys()
    for path, layer in whole.named_modules():
        mine = ours.get_submodule(path)
        if not isinstance(layer, nn.Linear) or stays(layer, kind):
            own, mine = ((*m.parameters(recurse=False), *m.buffers(recurse=False)) for m in (layer, mine))
            assert all(map(torch.equal, own, mine))
            continue
        want, step, halfway = rounded(layer.weight.double(), kind)
        off = (held(mine) - want).abs() / step
        assert float(off[~halfway].max()) < 1e-3, path
        assert float(off.max()) < 1.001, path  # either side of what lies halfway
        layer.weight.copy_(held(mine))
    for (got, _), (want, _) in zip(case.compare(ours, theirs), case.compare(whole, theirs), strict=True):
        assert got.dtype == want.dtype
        assert float((got - want).abs().max() / want.abs().max()) <= TIGHT
