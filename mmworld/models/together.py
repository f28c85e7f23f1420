"""Many streams, one model: sessions that are fed and asked side by side, each as it would be alone.

A session holds all that is remembered of its stream, so nothing is held here: which sessions come in one call is free,
and any may join, leave, be cleared, forked or fed alone in between.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch

from mmworld.attention import Mask
from mmworld.errors import MMWorldError, UsageError
from mmworld.generate.beam import Beam
from mmworld.generate.decode import Generation, alike, answer
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import STOP, Stop
from mmworld.models.session import Block, Session, observed
from mmworld.models.world import World
from mmworld.nn.streams import Streams
from mmworld.types import Chunk, Tokens

Coming = tuple[Session, Chunk]
Refusal = tuple[Session, MMWorldError]
"""Whose chunk was not taken, and why, as `Session.append` would have raised it."""


def append(chunks: Sequence[Coming]) -> list[Refusal]:
    """Take the next chunks of sessions of one model, and all blocks that are due into their contexts.

    What one session is given changes nothing of the others: a chunk that is refused is told of, and the rest go on.

    Args:
        chunks: of any of them any number, those of one stream in order.

    Raises:
        UsageError: the sessions are of different models.
    """
    refused = feed(chunks)
    sessions = list({id(s): s for s, _ in chunks}.values())
    enter([(s, s.due()) for s in sessions])
    return refused


@torch.no_grad()
def feed(chunks: Sequence[Coming]) -> list[Refusal]:
    """Encode chunks, those of a modality in one packed pass; their blocks wait until each session's `due` hands them
    out. Arguments and errors as of `append`."""
    _world([s for s, _ in chunks])
    refused: list[Refusal] = []
    for coming in _rounds(chunks):
        tokens = _encoded(coming)
        for i, (session, chunk) in enumerate(coming):
            with _noted(session, refused):
                session.take(chunk, session.encoded(chunk) if tokens is None else tokens[i])
    return refused


@torch.no_grad()
def enter(blocks: Sequence[tuple[Session, Sequence[Block]]]) -> None:
    """Put blocks of each session, in order, into its context, in as few packed passes as the longest of them takes.
    Raises UsageError as `append` does."""
    blocks = [(session, due) for session, due in blocks if due]
    world = _world([s for s, _ in blocks])
    for members in alike(s.context.reach for s, _ in blocks):
        some = [blocks[i] for i in members]
        for step in zip_longest(*(session.runs(due) for session, due in some)):
            _step(world, [(session, *run) for (session, _), run in zip(some, step, strict=True) if run])


def generate(
    sessions: Sequence[Session], prompt: str = "", sampler: Sampler | Beam = GREEDY, stop: Stop = STOP
) -> list[Generation]:
    """What the model says of each context, side by side; the contexts stay as they are. Raises as `append` does."""
    return answer(_world(sessions), [s.context for s in sessions], prompt, sampler, stop) if sessions else []


def _world(sessions: Sequence[Session]) -> World | Any:
    """The model of all of them; None if there are none."""
    worlds = {id(s.world): s.world for s in sessions}
    if len(worlds) > 1:
        raise UsageError(f"sessions of {len(worlds)} models", hint="only those of one model go side by side")
    return next(iter(worlds.values()), None)


def _rounds(chunks: Sequence[Coming]) -> list[list[Coming]]:
    """The first chunks of each stream, modality by modality, then the second ones…"""
    seen: Counter[tuple[int, str]] = Counter()
    rounds: dict[tuple[int, str], list[Coming]] = defaultdict(list)
    for session, chunk in chunks:
        stream = id(session), chunk.modality
        rounds[seen[stream], chunk.modality].append((session, chunk))
        seen[stream] += 1
    return [rounds[at] for at in sorted(rounds)]


def _encoded(coming: Sequence[Coming]) -> list[Tokens] | None:
    """The tokens of chunks of one modality, of a session each; None, and no state has moved, if they do not go
    together."""
    (first, chunk), *_ = coming
    try:
        states = [session.expect(c).state for session, c in coming]
        adapter: Any = first.world.adapters[chunk.modality]
        return adapter.encode_next([c for _, c in coming], states) if hasattr(adapter, "encode_next") else None
    except MMWorldError:  # of one of them: alone it says so, and the others go on
        return None


@contextmanager
def _noted(session: Session, refused: list[Refusal]) -> Iterator[None]:
    try:
        yield
    except MMWorldError as e:
        refused.append((session, e))


def _step(world: World, runs: Sequence[tuple[Session, int, list[Block]]]) -> None:
    """The next blocks of each session, those of one kind at most, through the backbone in one packed pass."""
    for session, kind, _ in runs:
        session.context.kind = kind
    blocks = [(b, session.zero) for session, _, run in runs for b in run]
    x = torch.cat(observed(world, *map(list, zip(*blocks, strict=True))))
    sizes = tuple(len(b.tokens) for b, _ in blocks)
    lengths = tuple(sum(len(b.tokens) for b in run) for *_, run in runs)
    streams = Streams([session.context for session, *_ in runs])
    world.backbone(x[None], Mask("blocks", sizes, lengths=lengths), streams)
