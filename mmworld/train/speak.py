"""Training of a listen/speak head on rendered streams whose event times are exact; the model itself stays as it is."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from mmworld import config
from mmworld.models.load import find, load
from mmworld.models.session import Session
from mmworld.models.speakhead import HEAD, AsTrained, Listener, SpeakHead, SpeakHeadConfig
from mmworld.models.world import World
from mmworld.render import streams
from mmworld.stream.answers import answered
from mmworld.stream.policy import TICK
from mmworld.types import Caption
from mmworld.weights.shards import revision

log = logging.getLogger(__name__)

TOLERANCE = 0.75
"""Seconds within which the threshold's choice takes what is said for in time."""
CLIP = 1.0
"""Largest norm of the gradient."""


@config.config
class SpeakRecipe:
    """
    Attributes:
        model: whose adapters' tokens the head reads: a name or a folder.
        out: folder in which the head is written; the model's own makes it the model's.
        streams: how many of each kind (see mmworld.render.streams) it learns from.
        held_out: of each kind, others, on which the threshold is chosen.
        seconds: of each stream.
        delay: seconds after an event from which on it is to speak: what stands still must be seen to stand.
        span: seconds for which it is to speak then; which block of these it is does not matter.
        weight: of a step at which it is to speak, beside one at which it is to listen.
        passes: through all streams.
        batch: streams a step.
        learning_rate: of AdamW at its beginning; it falls to nothing as a cosine does.
    """

    model: str
    out: str
    streams: dict[str, int]
    held_out: Annotated[int, Field(gt=0)] = 20
    seconds: float = 60.0
    width: int = 32
    hidden: int = 64
    delay: float = 0.1
    span: float = 0.6
    weight: float = 1.0
    seed: int = 0
    passes: int = 40
    batch: int = 10
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        if not self.streams or self.streams.keys() - streams.SENSES.keys():
            raise ValueError(f"streams must be of {', '.join(streams.SENSES)}, are {', '.join(self.streams) or 'none'}")


@dataclass(frozen=True, eq=False)
class Heard:
    """One stream as a head reads it.

    Attributes:
        x: for each modality the tokens of its blocks [K, n, D].
        order: int64 [T], the blocks in the order in which they come, as places in the row of those of x.
        ends: of the blocks in that order, float64 [T] seconds.
        events: what is to be told, each at its end.
    """

    x: dict[str, Tensor]
    order: Tensor
    ends: Tensor
    events: tuple[Caption, ...]

    def wanted(self, delay: float, span: float) -> Tensor:
        """1 after the blocks at which to speak, 0 after others [T]."""
        late = self.ends[:, None] - torch.tensor([e.end for e in self.events], dtype=torch.float64) - delay
        return ((late >= -1e-6) & (late < span - 1e-6)).any(1).float()


def run(path: Path | str, overrides: Sequence[str] = ()) -> Path:
    """Train the head that the recipe at `path` describes: some minutes on one core, not to be gone on with.

    Returns:
        The head's file; `AsTrained` takes the recipe's `out`.

    Raises:
        ConfigError: the recipe is wrong.
        CheckpointError: there is no such model.
    """
    recipe = config.load(SpeakRecipe, path, overrides)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # with others sums differ in their last bits
    try:
        return _run(recipe)
    finally:
        torch.set_num_threads(before)


def _run(recipe: SpeakRecipe) -> Path:
    world = load(recipe.model)
    learnt, held_out = (_heard(world, recipe, part) for part in (0, 1))
    dims = {n: x.shape[-1] for one in learnt for n, x in one.x.items()}
    torch.manual_seed(recipe.seed)
    head = SpeakHead(SpeakHeadConfig(dims, recipe.width, recipe.hidden))
    _fit(head, learnt, recipe)
    head.half().float()  # as it will be read
    scores = {t: _score(head, held_out, t) for t in (n / 20 for n in range(1, 20))}
    best = max(scores, key=scores.__getitem__)
    log.info("%s: threshold %g, F1 %.3f on what was held out", recipe.out, best, scores[best])
    made = {k: v for k, v in asdict(recipe).items() if k != "out"}
    about = {"recipe": made, "model": revision(find(recipe.model)), "f1": round(scores[best], 4)}
    head.config = replace(head.config, threshold=best)
    path = Path(recipe.out) / HEAD
    head.save(path, about)
    return path


def log_odds(head: SpeakHead, heard: Sequence[Heard]) -> list[Tensor]:
    """After each block of each stream [T], all in one pass."""
    packed = pack_sequence([_looks(head, one) for one in heard], enforce_sorted=False)
    x, lengths = pad_packed_sequence(head.remembers(packed)[0])
    return [head.says(x[:n, i])[:, 0] for i, n in enumerate(lengths)]


def _looks(head: SpeakHead, heard: Heard) -> Tensor:
    return torch.cat([head.look(name, x) for name, x in heard.x.items()])[heard.order]


@torch.no_grad()
def _heard(world: World, recipe: SpeakRecipe, part: int) -> list[Heard]:
    """The streams of a part: 0 what is learnt from, 1 what is held out."""
    out = []
    for k, (kind, n) in enumerate(sorted(recipe.streams.items())):
        for i in range(recipe.held_out if part else n):
            course = streams.draw(np.random.default_rng((recipe.seed, part, k, i)), kind, recipe.seconds)
            out.append(hear(world, course))
    return out


def hear(world: World, course: streams.Course) -> Heard:
    """A course as the model's adapters take it, block by block in the order of a session."""
    session = Session(world, modalities=[c.modality for c in course.chunks])
    for chunk in course.chunks:
        session.feed(chunk)
    blocks = session.due()
    names = [b.modality for b in blocks]
    places = sorted(range(len(blocks)), key=lambda i: names[i])  # stable: those of a modality stay in order
    x = {n: torch.stack([b.tokens.x for b in blocks if b.modality == n]) for n in sorted(set(names))}
    ends = torch.tensor([b.end for b in blocks], dtype=torch.float64)
    return Heard(x, torch.tensor(places).argsort(), ends, course.events)


def _fit(head: SpeakHead, heard: Sequence[Heard], recipe: SpeakRecipe) -> None:
    optimizer = torch.optim.AdamW(head.parameters(), recipe.learning_rate)
    wanted = [one.wanted(recipe.delay, recipe.span) for one in heard]
    for i in range(recipe.passes):
        order, total = torch.randperm(len(heard)), 0.0
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * (0.5 + 0.5 * math.cos(math.pi * i / recipe.passes))
        for some in order.split(recipe.batch):
            odds = torch.cat(log_odds(head, [heard[j] for j in some]))
            target = torch.cat([wanted[j] for j in some])
            weight = torch.tensor(recipe.weight)
            loss = F.binary_cross_entropy_with_logits(odds, target, pos_weight=weight)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            total += float(loss.detach()) * len(some) / len(heard)
        log.info("pass %d of %d: loss %.4f", i + 1, recipe.passes, total)


@torch.no_grad()
def _score(head: SpeakHead, heard: Sequence[Heard], threshold: float) -> float:
    """F1 of when it speaks."""
    hits = said = events = 0
    for one, odds in zip(heard, log_odds(head, heard), strict=True):
        ends = moments(AsTrained(head, threshold), odds.sigmoid().tolist(), one.ends.tolist())
        told = [Caption("", 0.0, t) for t in ends]
        hits += len(answered(told, one.events, TOLERANCE))
        said, events = said + len(told), events + len(one.events)
    return 2 * hits / max(said + events, 1)


def moments(policy: AsTrained, probabilities: Sequence[float], ends: Sequence[float]) -> list[float]:
    """When a policy speaks of a stream from 0 s on whose blocks end at `ends` and have these probabilities."""
    judge = policy.start(0.0)
    out: list[float] = []
    for p, end in zip(probabilities, ends, strict=True):
        _tell(judge, end - 2 * TICK, out)
        judge.note(p, end)
        _tell(judge, end, out)
    return out


def _tell(judge: Listener, until: float, out: list[float]) -> None:
    while judge.due <= until + TICK:
        out.append(judge.due)
        judge.restart(out[-1], out[-1])
