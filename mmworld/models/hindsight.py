"""What was perceived, looked at again when somebody asks: a few tokens of it, kept in a memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mmworld.attention import Mask
from mmworld.generate.beam import Beam
from mmworld.generate.decode import answer
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import STOP, Stop
from mmworld.models.segments import Piece
from mmworld.models.session import observed
from mmworld.models.world import World
from mmworld.nn.state import KVState
from mmworld.stream.economy import pooled
from mmworld.stream.evidence import Evidence, Trace
from mmworld.stream.memory import Memory
from mmworld.types import Moment

TOKENS = 64
"""Of each sense, of a piece: all that nano makes of five seconds. With half as many a fifth of the captions of rendered
scenes that were right are no longer, when they are made anew (`benchmarks/recall.py`)."""

LARGEST = 65504.0
"""A number of 16 bits."""


class Hindsight:
    """Keeps pieces of what is perceived, and answers from them.

    A piece is looked at in a context of its own, as if it were perceived now: a model that was shown one thing at a
    time tells worse of what stands beside something else (`benchmarks/recall.py`).

    Args:
        world: the model that perceived.
        memory: where what is kept is.
        sampler, stop: how it answers.
    """

    def __init__(self, world: World, memory: Memory, sampler: Sampler | Beam = GREEDY, stop: Stop = STOP) -> None:
        self._world, self._memory, self._sampler, self._stop = world, memory, sampler, stop

    def keep(self, piece: Piece, source: str) -> None:
        """Keep what was perceived in a piece."""
        self._memory.keep(evidence(self._world, piece, source))

    def look(self, moments: Sequence[Moment], question: str = "") -> list[Moment]:
        """The moments, with what the model says to a question when it is shown what is kept of each, and that alone."""
        kept = [self._memory.evidence(m, question) for m in moments]
        there = [e if e is not None and fits(self._world, e) else None for e in kept]
        contexts = [context(self._world, e) for e in there if e is not None]
        made = iter(answer(self._world, contexts, question, self._sampler, self._stop) if contexts else [])
        return [m if e is None else replace(m, seen=next(made).text) for m, e in zip(moments, there, strict=True)]


@torch.no_grad()
def evidence(world: World, piece: Piece, source: str = "", most: int = TOKENS) -> Evidence:
    """What is kept of a piece: of each sense at most so many tokens, as the backbone takes them where the piece begins
    at zero; means of those that are alike."""
    seen = observed(world, piece.blocks, [piece.start] * len(piece.blocks))
    traces, whole = [], torch.cat(seen)
    for name in sorted({b.modality for b in piece.blocks}):
        x = torch.cat([x for b, x in zip(piece.blocks, seen, strict=True) if b.modality == name]).float()
        ends = torch.cat([b.tokens.end for b in piece.blocks if b.modality == name])
        x, time = pooled(x, (ends - piece.start).to(x), most)
        traces.append(Trace(name, _numbers(x.clamp(-LARGEST, LARGEST)).astype(np.float16), _numbers(time)))
    meaning = world.sense(whole)
    return Evidence(piece.start, piece.end, tuple(traces), source, None if meaning is None else _numbers(meaning))


@torch.no_grad()
def context(world: World, kept: Evidence) -> KVState:
    """A fresh context that holds what is kept, each token a block, in order of time and name."""
    x = torch.cat([torch.from_numpy(t.x.astype(np.float32)) for t in kept.traces])
    time = np.concatenate([t.time for t in kept.traces])
    state = KVState()
    row = x[torch.from_numpy(np.argsort(time, kind="stable"))].to(world.embedding)
    world.backbone(row[None], Mask("blocks", (1,) * len(row)), state)
    return state


def fits(world: World, kept: Evidence) -> bool:
    """Whether a model takes what is kept: tokens of its width."""
    return bool(kept.traces) and all(t.x.shape[1] == world.config.backbone.dim for t in kept.traces)


def _numbers(x: Tensor) -> np.ndarray:
    return x.numpy(force=True).astype(np.float32)
