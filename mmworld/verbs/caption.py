"""The two calls that most need: `mmworld.caption(path)` and `for c in mmworld.stream(source)`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmworld.errors import UsageError
from mmworld.generate.beam import Beam
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import STOP, Stop
from mmworld.media.gate import Media
from mmworld.models.captioner import DEFAULT, Captioner
from mmworld.models.keep import Keep
from mmworld.models.message import Assistant
from mmworld.models.opening import Opened
from mmworld.models.turns import RollingWatcher
from mmworld.models.watcher import Borrowed, Watcher
from mmworld.models.world import World
from mmworld.stream.economy import Economy
from mmworld.stream.policy import Policy
from mmworld.types import Caption, Source
from mmworld.verbs.model import assistant, loaded


def stream(
    source: Source | Media | Opened,
    *,
    model: str | os.PathLike[str] | World | Assistant = "nano",
    device: str = "cpu",
    policy: Policy = DEFAULT,
    sampler: Sampler | Beam = GREEDY,
    prompt: str = "",
    **options: Any,
) -> Iterator[Caption]:
    """Captions of a video, a sound, an image, a scan or a series, as it is read.

    Args:
        source: a path, bytes, a binary file, a `data:` address, a folder of clouds.
        model: a name, a folder, or a model: one of ours, or a borrowed one that tells of what it is shown.
        policy: when to speak: `Every(seconds)`, `OnChange()`, `AtSilence(file)`, `AsTrained(model)`, `AtEnd()`.
        options: start, end, fps, modalities and tap, as in `Captioner.stream`.

    Raises:
        CheckpointError: there is no such model.
        UsageError: the model does not tell of anything.
        MediaError: the source is refused, or ends in a fault; the captions before it have been given by then.
    """
    teller: Any = captioner(loaded(model, device), policy, sampler, prompt)
    return teller.stream(source, **options)


def caption(source: Source | Media | Opened, **options: Any) -> list[Caption]:
    """All captions of `stream`, once it has ended."""
    return list(stream(source, **options))


def captioner(
    model: Any,
    policy: Policy = DEFAULT,
    sampler: Sampler | Beam = GREEDY,
    prompt: str = "",
    stop: Stop = STOP,
    keep: Keep | None = None,
    economy: Mapping[str, Economy] | None = None,
) -> Captioner | Borrowed[Any]:
    """What makes a stream's captions with this model; UsageError if it does not tell of anything, or is borrowed and
    is to `keep`, or to leave out tokens."""
    if isinstance(model, World):
        return Captioner(model, policy, sampler, prompt, stop, keep, economy)
    if economy:
        raise UsageError(f"a {type(model).__name__} leaves out no tokens", hint="models of ours do")
    if keep is None:
        return Watcher(assistant(model), policy, sampler, prompt, stop)
    if not hasattr(model, "glimpse"):
        hint = "models of ours do; and Qwen-VL, LLaVA, LLaVA-NeXT-Video and LLaVA-OneVision"
        raise UsageError(f"a {type(model).__name__} keeps nothing across captions", hint=hint)
    return RollingWatcher(model, policy, sampler, prompt, stop, keep)
