"""A session of any length is one pass with its window played through, and says the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import accumulate
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from long import PICTURES, POINTS, Long, bank_of, block_times, cuts, long_stream, without_state
from masks import relative_error
from played import Played, seen_by, seen_of_each_kind
from streams import NAMES, TINY, randomised
from torch import Tensor
from toy import toy_tokenizer

from mmworld.attention import Mask
from mmworld.generate.stop import Stop
from mmworld.models.keep import Keep
from mmworld.models.layout import tick
from mmworld.models.session import Session
from mmworld.models.world import World, WorldConfig
from mmworld.nn.transformer import TransformerConfig
from mmworld.types import Chunk, Tokens

FEW, MANY = 500, 10_000
SLOW = [pytest.mark.slow, pytest.mark.timeout(3600)]
STEPS = pytest.mark.parametrize("steps", [FEW, pytest.param(MANY, marks=SLOW)])
LONG = settings(max_examples=1, phases=[Phase.generate])  # to shrink such a stream takes hours
STOP, PROMPT, TIMES = Stop(6), "two dogs", 5


def tiny_world() -> World:
    """Small encoders of every sense there is."""
    torch.manual_seed(0)
    tokenizer = toy_tokenizer()
    adapters = {name: TINY.get(name, {}) for name in NAMES}
    world = randomised(World(WorldConfig(TransformerConfig(32, 2, 2, norm="rms"), adapters, len(tokenizer)), tokenizer))
    with torch.no_grad():  # else it says its last id again and again
        world.embedding[3:259] *= 0.1
        for layer in world.backbone.layers:
            layer.attention.out.weight *= 24
    return world


WORLD = tiny_world()
EXACT = copy.deepcopy(WORLD).double()

Streams = dict[str, tuple[Long, list[int]]]
"""Of each sense a stream and the rows of each of its chunks."""
STARTS = st.sampled_from([0.0, 0.1, 1e5, 1e7])


@dataclass(frozen=True)
class Whole:
    """The blocks of all streams in the order in which they enter: their tokens, float64 [n, D], and their senses."""

    x: list[Tensor]
    senses: list[str]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(map(len, self.x))


def streams_of(names: list[str], data: st.DataObject, steps: int, start: float) -> Streams:
    """A stream of each sense, all about as long, and the rows of each of its chunks, at least `steps` in all."""
    drawn = {n: data.draw(cuts(WORLD.adapters[n])) for n in names}
    rates = {n: float(WORLD.adapters[n].rate or (POINTS if WORLD.adapters[n].hop else PICTURES)) for n in names}
    seconds = 1.2 * steps / sum(rates[n] * len(c.sizes) / sum(c.sizes) for n, c in drawn.items())
    out = {}
    for name, c in drawn.items():
        rows = c.rows(2 * steps)
        n = next(i for i, end in enumerate(accumulate(rows)) if end >= seconds * rates[name]) + 1
        m = WORLD.adapters[name]
        out[name] = long_stream(m, bank_of(m), sum(rows[:n]), start=start), rows[:n]
    assert sum(len(rows) for _, rows in out.values()) >= steps
    return out


def arriving(streams: Streams, late: float) -> Iterator[Chunk]:
    """Chunks of all streams, each stream so many seconds later than the one before it."""
    each = [((c.start + i * late, c) for c in s.chunks(rows)) for i, (s, rows) in enumerate(streams.values())]
    return (c for _, c in merge(*each, key=lambda timed: timed[0]))


def whole(streams: Streams, start: float) -> Whole:
    """All blocks, made without states in float64, by (end, name)."""
    found = []
    for name, (s, rows) in streams.items():
        m = WORLD.adapters[name]
        x, sizes = without_state(m, s)
        begin, end = block_times(m, s, rows)
        n = torch.tensor(sizes)
        x = EXACT.observe(name, Tokens(x, begin.repeat_interleave(n), end.repeat_interleave(n), sizes), start)
        found += [
            (tick(e), name, i, part) for i, (e, part) in enumerate(zip(end.tolist(), x.split(sizes), strict=True))
        ]
    found.sort(key=lambda block: block[:3])
    return Whole([x for *_, x in found], [name for _, name, *_ in found])


def said(played: Played, seen: list[int]) -> tuple[int, ...]:
    """What is the likeliest to be said, id by id, by one who sees these blocks."""
    ids, held, n = list(EXACT.prompt(PROMPT)), list(seen), len(EXACT.prompt(PROMPT)) + STOP.max_tokens
    first, begun, at = len(ids), len(played.held[0]), 0
    while len(ids) < n and ids[-1] not in EXACT.tokenizer.ends:
        while at < len(ids):
            held.append(begun + at)
            y = played.push(EXACT.embed(torch.tensor([[ids[at]]])), held)
            at += 1
        ids.append(int(EXACT.logits(y[0, -1]).argmax()))
    played.pop(at)
    return tuple(i for i in ids[first:] if i not in EXACT.tokenizer.ends)


@dataclass
class Heard:
    """What a session makes of streams.

    Attributes:
        x: of each block, what the backbone makes of it [n, D].
        texts: after how many blocks it was asked, and the ids it said.
        held: bytes after each chunk.
    """

    x: list[Tensor] = field(default_factory=list)
    texts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    held: list[int] = field(default_factory=list)


def hear(session: Session, streams: Streams, late: float) -> Heard:
    out = Heard()

    def note(_: object, given: tuple[Any, ...], made: Tensor) -> None:
        if given[2] is session.context:  # and not a fork that speaks
            out.x.extend(made[0].split(given[1].blocks))

    steps = sum(len(rows) for _, rows in streams.values())
    hook = WORLD.backbone.register_forward_hook(note)
    for i, chunk in enumerate(arriving(streams, late), 1):
        session.append(chunk)
        out.held.append(session.nbytes)
        if i % (steps // TIMES) == 0 and out.x:
            out.texts[len(out.x)] = session.generate(PROMPT, stop=STOP).ids
    hook.remove()
    return out


def check(heard: Heard, blocks: Whole, seen: list[list[int]]) -> None:
    """All of it is what one who sees these blocks makes of each, and says after it."""
    assert tuple(map(len, heard.x)) == blocks.sizes
    played, want = Played(EXACT.backbone), []
    for i, x in enumerate(blocks.x):
        want.append(played.push(x[None], seen[i])[0])
        if i + 1 in heard.texts:
            assert heard.texts[i + 1] == said(played, seen[i])
    assert relative_error(torch.cat(heard.x), torch.cat(want)) <= 1e-5
    assert len(heard.texts) >= TIMES - 1
    early = max(len(heard.held) // 10, FEW)
    assert max(heard.held[early:], default=0) <= 1.5 * max(heard.held[:early])


SENSES = pytest.mark.parametrize("names", [*([n] for n in NAMES), NAMES], ids=lambda names: "+".join(names))


@torch.no_grad()
@STEPS
@SENSES
@LONG
@given(data=st.data(), window=st.integers(4, 24), sinks=st.integers(0, 3), late=st.floats(0, 2))
def test_with_a_window(names: list[str], steps: int, data: st.DataObject, window: int, sinks: int, late: float) -> None:
    start = data.draw(STARTS)
    streams = streams_of(names, data, steps, start)
    blocks = whole(streams, start)
    heard = hear(Session(WORLD, modalities=names, window=window, sinks=sinks), streams, late)
    check(heard, blocks, [seen_by(i, window, sinks) for i in range(len(blocks.x))])
    if not sinks:
        want = EXACT.backbone(torch.cat(blocks.x)[None], Mask("blocks", blocks.sizes, window))[0]
        assert relative_error(torch.cat(heard.x), want) <= 1e-5


@torch.no_grad()
@STEPS
@LONG
@given(data=st.data(), seconds=st.floats(0.5, 4), sinks=st.integers(0, 3), late=st.floats(0, 2))
def test_with_the_last_seconds_of_each_sense(
    steps: int, data: st.DataObject, seconds: float, sinks: int, late: float
) -> None:
    start, keep = data.draw(STARTS), Keep(seconds, sinks=sinks)
    streams = streams_of(NAMES, data, steps, start)
    blocks = whole(streams, start)
    heard = hear(Session(WORLD, modalities=NAMES, keep=keep), streams, late)
    kinds = [NAMES.index(n) for n in blocks.senses]
    check(heard, blocks, seen_of_each_kind(kinds, [*keep.limits(WORLD, NAMES)], None, sinks))


@torch.no_grad()
@LONG
@given(data=st.data(), late=st.floats(0, 2))
def test_with_all_of_it(data: st.DataObject, late: float) -> None:
    start = data.draw(STARTS)
    streams = streams_of(NAMES, data, FEW, start)
    blocks = whole(streams, start)
    heard = hear(Session(WORLD, modalities=NAMES), streams, late)
    want = EXACT.backbone(torch.cat(blocks.x)[None], Mask("blocks", blocks.sizes))[0]
    assert relative_error(torch.cat(heard.x), want) <= 1e-5


@torch.no_grad()
@LONG
@given(data=st.data())
def test_what_it_says_hangs_on_what_it_has_seen(data: st.DataObject) -> None:
    """Else that it says the same as another would tell nothing."""
    streams = streams_of(NAMES, data, FEW, 0.0)
    assert len(set(hear(Session(WORLD, modalities=NAMES, window=8), streams, 0.0).texts.values())) > 1
