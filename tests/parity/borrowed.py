"""Tiny models of transformers and ours read from what they saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from masks import relative_error
from torch import Tensor

import mmworld
from mmworld.models.zoo import save

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
LIMIT = 2e-5


@dataclass(frozen=True)
class Case:
    """A class of transformers and the sizes of a tiny one.

    Attributes:
        unread: a part of the names of what ours leaves out on purpose.
    """

    kind: str
    head: str
    sizes: dict[str, Any]
    unread: str = "mask_token"

    def build(self) -> Any:
        """A model whose weights, norms and biases too, leave no part of it without effect."""
        torch.manual_seed(0)
        model = getattr(hf, self.head)(getattr(hf, f"{self.kind}Config")(**self.sizes)).eval()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.2)
            for name, x in model.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    x.add_(torch.rand_like(x))
        return model


def both(case: Case, folder: Path) -> tuple[Any, Any]:
    """Ours, from the shards that theirs were saved in, and theirs."""
    theirs = case.build()
    theirs.save_pretrained(folder, max_shard_size="10KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return mmworld.load(folder), theirs


def check(ours: Tensor, theirs: Tensor) -> None:
    assert relative_error(ours, theirs) <= LIMIT


@torch.no_grad()
def check_saved(case: Case, folder: Path) -> None:
    """What ours saves is all that the reference needs, and the same numbers in both."""
    ours, theirs = both(case, folder / "theirs")
    save(ours, folder / "ours", shard=10_000)
    again, said = getattr(hf, case.head).from_pretrained(folder / "ours", output_loading_info=True)
    assert not {n for n in said["missing_keys"] if case.unread not in n}
    assert not said["unexpected_keys"]
    for name, x in again.state_dict().items():
        if case.unread not in name:
            assert torch.equal(x, theirs.state_dict()[name]), name
    mine, back = (mmworld.load(folder / n).state_dict() for n in ("ours", "theirs"))
    assert all(torch.equal(mine[n], back[n]) for n in back)
