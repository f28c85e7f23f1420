"""What the tests of parity share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from masks import relative_error
from torch import Tensor

import mmworld
from mmworld.models.zoo import save
from mmworld.models.zoo.parity import case as parity

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
LENGTHS = (7, 1, 5)


def check(ours: Tensor, theirs: Tensor) -> None:
    assert relative_error(ours, theirs) <= parity.LIMIT


@torch.no_grad()
def goes_on(ours: Any, logits: Tensor, state: Any, n: int = 32) -> list[int]:
    """The next n ids of one text, each the likeliest, from the scores [1, V] of the first and the state before it."""
    said: list[int] = []
    while len(said) < n:
        said.append(int(logits[0].argmax()))
        logits = ours.read(torch.tensor([[said[-1]]]), state)
    return said


@torch.no_grad()
def check_saved(case: parity.Case, folder: Path) -> None:
    """What ours saves is all that the reference needs, and the same numbers in both."""
    ours, theirs = parity.both(case, folder / "theirs")
    assert len(list((folder / "theirs").glob("*.safetensors"))) > 1
    save(ours, folder / "ours", shard=10_000)
    again, said = getattr(hf, case.model).from_pretrained(folder / "ours", output_loading_info=True)
    assert not {n for n in said["missing_keys"] if not re.search(case.unread, n)}
    assert not said["unexpected_keys"]
    for name, x in again.state_dict().items():
        if not re.search(case.unread, name):
            assert torch.equal(x, theirs.state_dict()[name]), name
    mine, back = (mmworld.load(folder / n).state_dict() for n in ("ours", "theirs"))
    assert all(torch.equal(mine[n], back[n]) for n in back)
