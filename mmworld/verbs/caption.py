"""The two calls that most need: `mmworld.caption(path)` and `for c in mmworld.stream(source)`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from mmworld.generate.beam import Beam
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.media.gate import Media
from mmworld.models.captioner import DEFAULT, Captioner
from mmworld.models.load import load
from mmworld.models.opening import Opened
from mmworld.models.world import World
from mmworld.stream.policy import Policy
from mmworld.types import Caption, Source


def stream(
    source: Source | Media | Opened,
    *,
    model: str | os.PathLike[str] | World = "nano",
    device: str = "cpu",
    policy: Policy = DEFAULT,
    sampler: Sampler | Beam = GREEDY,
    prompt: str = "",
    **options: Any,
) -> Iterator[Caption]:
    """Captions of a video, a sound, an image, a scan or a series, as it is read.

    Args:
        source: a path, bytes, a binary file, a `data:` address, a folder of clouds.
        model: a name, a folder that `World.save` wrote, or a model.
        policy: when to speak: `Every(seconds)`, `OnChange()`, `AtEnd()`.
        options: start, end, fps, modalities and tap, as in `Captioner.stream`.

    Raises:
        CheckpointError: there is no such model.
        MediaError: the source is refused, or ends in a fault; the captions before it have been given by then.
    """
    world = model if isinstance(model, World) else _loaded(os.fspath(model), device)
    return Captioner(world, policy, sampler, prompt).stream(source, **options)


def caption(source: Source | Media | Opened, **options: Any) -> list[Caption]:
    """All captions of `stream`, once it has ended."""
    return list(stream(source, **options))


@lru_cache(maxsize=1)
def _loaded(model: str, device: str) -> World:
    return load(model, device)
