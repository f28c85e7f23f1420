"""A tiny model of transformers with random weights, and how far ours is from it.

The weights go the way of a real checkpoint: transformers saves shards, `mmworld.load` reads them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmworld.errors import UsageError
from mmworld.models.zoo import load
from mmworld.weights.shards import CONFIG, read_json

LIMIT = 2e-5
"""Largest difference of logits or embeddings, relative to the largest of them."""
Pairs = Iterator[tuple[Tensor, Tensor]]
"""What ours gives and what theirs gives."""


@dataclass(frozen=True)
class Case:
    """A tiny model of transformers.

    Attributes:
        config, model: names of its classes.
        sizes: what the config is given.
        compare: runs both on the same input.
        unread: pattern of a part of the names of what ours leaves out on purpose.
        said: what config.json says instead, in checkpoints as they were released.
    """

    config: str
    model: str
    sizes: dict[str, Any]
    compare: Callable[[Any, Any], Pairs]
    unread: str = "mask_token"
    said: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """Theirs, its weights, norms and biases too such that no part is without effect.

        Raises:
            UsageError: transformers is not installed.
        """
        try:
            import transformers
        except ImportError:
            raise UsageError("comparing needs transformers", hint="pip install 'mmworld[dev]'") from None
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = getattr(transformers, self.model)(getattr(transformers, self.config)(**self.sizes)).eval()
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
    if case.said:
        (folder / CONFIG).write_text(json.dumps({**read_json(folder / CONFIG), **case.said}))
    return load(folder), theirs


@torch.no_grad()
def error(case: Case) -> float:
    """The largest difference between ours and theirs, relative to the largest number of theirs."""
    with tempfile.TemporaryDirectory() as folder:
        return largest(case.compare(*both(case, Path(folder))))


@torch.no_grad()
def largest(pairs: Pairs) -> float:
    """The largest difference of the pairs, relative to the largest number of theirs."""
    return float(torch.tensor([float((a - b).abs().max() / b.abs().max()) for a, b in pairs]).max())  # NaN, if any is


def ids(n: int, seed: int = 0, most: int = 40) -> Tensor:
    """A text [1, n] of ids from 3 on."""
    return torch.randint(3, most, (1, n), generator=torch.Generator().manual_seed(seed))


def noise(*shape: int) -> Tensor:
    """Pictures or frames."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def encodes(*shape: int) -> Callable[[Any, Any], Pairs]:
    """Of pictures, films or spectrograms of a shape."""

    def compare(ours: Any, theirs: Any) -> Pairs:
        yield from ends(ours, ours(noise(*shape)), theirs(noise(*shape)))

    return compare


def ends(ours: Any, x: Tensor, told: Any) -> Pairs:
    """Tokens and what they are pooled to, as far as theirs says."""
    if told.get("last_hidden_state") is not None:
        yield x, told.last_hidden_state
    for name in ("pooler_output", "image_embeds", "logits"):
        if told.get(name) is not None:
            yield ours.pool(x), told[name].flatten(1)


NAMES: dict[str, Any] = {"id2label": {0: "cat", 1: "dog", 2: "owl"}}
LAYERS: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
"""Sizes that most configs name so."""
