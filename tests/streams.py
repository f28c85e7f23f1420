"""Streams and small encoders of every modality, for tests."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from mmworld.models.world import make_adapter
from mmworld.registry import modalities
from mmworld.types import Chunk

SMALL = {"dim": 16, "depth": 1, "n_heads": 2, "hidden": 16}
TINY: dict[str, dict[str, Any]] = {
    "image": SMALL | {"width": 8, "size": 32},
    "video": SMALL | {"width": 8, "size": 48, "window": 2},
    "audio": SMALL | {"width": 8, "n_mels": 8, "frames": 8, "context": 8, "window": 3},
    "points": SMALL | {"width": 8, "n_centres": 4, "part_points": 3, "max_points": 12, "window": 3},
    "sensor": SMALL | {"width": 8, "rows": 5, "window": 2},
}
NAMES = list(modalities)
SECONDS = {"image": 1.0, "video": 4.0, "audio": 0.7, "points": 2.0, "sensor": 3.0}
"""Longest stream of a test: past the window of the tiny encoder."""
RATES = {"audio": 16_000, "video": 4, "sensor": 16, "image": 3, "points": 200}
"""Rows a second."""


@lru_cache
def tiny(name: str) -> Any:
    """A small encoder with random weights everywhere, also where training starts from zero."""
    return randomised(make_adapter(name, TINY[name]))


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for p in module.parameters():
        if p.ndim < 2:
            p.data += 0.3 * torch.randn(p.shape, generator=generator)
    return module.eval()


def stream(name: str, seconds: float, *, seed: int = 0, start: float = 0.0, size: int = 0) -> Chunk:
    """A whole stream of random data in one chunk."""
    g = torch.Generator().manual_seed(seed)
    rate = RATES[name]
    n = round(seconds * rate)
    side = size or TINY[name].get("size", 0)
    data: Tensor
    if name in ("image", "video"):
        data = torch.randint(0, 256, (n, 3, side, side), generator=g, dtype=torch.uint8)
    elif name == "audio":
        data = torch.randn(n, 1 + seed % 2, generator=g) * 0.1
    elif name == "sensor":
        data = torch.randn(n, 1 + seed % 3, generator=g).cumsum(0)
    else:
        times = (torch.rand(n, generator=g) * seconds).sort().values
        data = torch.cat((torch.randn(n, 11, generator=g), times[:, None]), dim=1)
    end = start if name == "image" else start + (seconds if name == "points" else n / rate)
    return Chunk(data, start, end, name, last=True)
