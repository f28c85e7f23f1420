"""Sessions side by side are each what they would be alone, whoever comes, goes, forgets or brings what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import TINY, randomised, stream
from toy import TOYS, toy_tokenizer, toy_world
from toy import stream as toy_stream

from mmworld.errors import MediaError, UsageError
from mmworld.generate.samplers import Sample
from mmworld.generate.stop import Stop
from mmworld.models import together
from mmworld.models.keep import Keep
from mmworld.models.modality import split
from mmworld.models.session import Session
from mmworld.models.world import World, WorldConfig
from mmworld.nn.transformer import TransformerConfig
from mmworld.types import Chunk

STOP = Stop(5)


def tiny_world() -> World:
    """Small encoders of the built-in kind, whose chunks are encoded in one packed pass."""
    torch.manual_seed(0)
    tokenizer = toy_tokenizer()
    adapters = {name: TINY[name] for name in ("video", "audio", "sensor")}
    world = World(WorldConfig(TransformerConfig(32, 2, 2, norm="rms"), adapters, len(tokenizer)), tokenizer)
    world = randomised(world)
    with torch.no_grad():
        world.embedding[3:259] *= 0.1
        for layer in world.backbone.layers:
            layer.attention.out.weight *= 8
    return world


WORLDS = {"packed": tiny_world(), "toy": toy_world(seed=5)}
SENSES = {"packed": ("video", "audio", "sensor"), "toy": tuple(sorted(TOYS))}


@st.composite
def sessions(draw: st.DrawFn, kind: str) -> list[tuple[Session, list[Chunk]]]:
    """Fresh sessions of any senses that keep in any way, and the chunks of each, in some order."""
    world, make = WORLDS[kind], {"packed": stream, "toy": toy_stream}[kind]
    out = []
    for _ in range(draw(st.integers(1, 3))):
        names = draw(st.lists(st.sampled_from(SENSES[kind]), unique=True, min_size=1, max_size=3))
        keep = draw(st.none() | st.builds(Keep, st.floats(0.2, 2), text=st.just(3), sinks=st.integers(0, 2)))
        window = None if keep else draw(st.none() | st.integers(1, 6))
        session = Session(world, modalities=names, window=window, sinks=draw(st.integers(0, 1)), keep=keep)
        chunks = []
        for name in names:
            rest = make(name, draw(st.floats(0, 2)), seed=draw(st.integers(0, 9)), start=draw(st.floats(0, 1)))
            for size in draw(st.lists(st.integers(0, 3), max_size=3)):
                piece, rest = split(world.adapters[name], rest, min(size * len(rest.data) // 5, len(rest.data)))
                chunks.append(piece)
            chunks.append(rest)
        ends = {id(c): (c.end, i) for i, c in enumerate(chunks)}
        out.append((session, sorted(chunks, key=lambda c, ends=ends: ends[id(c)])))
    return out


def assert_same(a: Session, b: Session) -> None:
    """Both stand where the other does."""
    assert (a.context.blocks, a.context.kinds, a.clock, a.origin) == (
        b.context.blocks,
        b.context.kinds,
        b.clock,
        b.origin,
    )
    for mine, its in zip((*a.context.keys, *a.context.values), (*b.context.keys, *b.context.values), strict=True):
        assert float((mine.x - its.x).abs().max()) < 1e-5 * (1 + float(its.x.abs().max()))


@pytest.mark.parametrize("kind", WORLDS)
@settings(deadline=None)
@given(st.data())
def test_each_is_what_it_would_be_alone(kind: str, data: st.DataObject) -> None:
    """They join late, leave early, forget and speak on the way, a few chunks of each at a time."""
    begun = data.draw(sessions(kind))
    alone = [s.fork() for s, _ in begun]
    waiting = [list(chunks) for _, chunks in begun]
    while any(waiting):
        coming, here = [], data.draw(st.sets(st.sampled_from([i for i, w in enumerate(waiting) if w]), min_size=1))
        for i in sorted(here):
            n = data.draw(st.integers(1, 3))
            taken, waiting[i] = waiting[i][:n], waiting[i][n:]
            coming += [(begun[i][0], c) for c in taken]
            for chunk in taken:
                alone[i].feed(chunk)
            alone[i].enter(alone[i].due())
        assert together.append(coming) == []
        cleared = data.draw(st.none() | st.sampled_from(range(len(begun))))
        if cleared is not None and begun[cleared][0].clock > -1:
            begun[cleared][0].clear()
            alone[cleared].clear()
    for (session, _), one in zip(begun, alone, strict=True):
        assert_same(session, one)
    for sampler in (Sample(seed=1), Sample(temperature=1e-4)):
        said = together.generate([s for s, _ in begun], "two dogs", sampler, STOP)
        assert [g.ids for g in said] == [s.generate("two dogs", sampler, STOP).ids for s in alone]


@pytest.mark.parametrize("kind", WORLDS)
def test_a_chunk_that_is_refused_harms_nobody(kind: str) -> None:
    world, make = WORLDS[kind], {"packed": stream, "toy": toy_stream}[kind]
    good, late, bad = (Session(world, modalities=["audio"]) for _ in range(3))
    alone = Session(world, modalities=["audio"])
    chunk = replace(make("audio", 0.5, seed=1), last=False)
    assert together.append([(s, chunk) for s in (good, late, bad)]) == []
    alone.append(chunk)
    after, wrong = replace(chunk, start=0.5, end=1.0), replace(chunk, modality="smell")
    refused = together.append([(late, chunk), (good, after), (bad, wrong), (bad, after)])
    alone.append(after)
    assert {id(s): type(e) for s, e in refused} == {id(late): UsageError, id(bad): UsageError}
    for session in (good, bad):
        assert_same(session, alone)
    late.append(after)
    assert_same(late, alone)


def test_of_a_chunk_that_the_encoder_refuses_nobody_moves() -> None:
    good, bad = (Session(WORLDS["packed"], modalities=["audio"]) for _ in range(2))
    chunk = replace(stream("audio", 0.5), last=False)
    ((whose, why),) = together.append([(good, chunk), (bad, replace(chunk, end=0.9))])
    assert whose is bad
    assert isinstance(why, MediaError)
    alone = Session(WORLDS["packed"], modalities=["audio"])
    alone.append(chunk)
    assert_same(good, alone)
    bad.append(chunk)
    assert_same(bad, alone)


def test_only_sessions_of_one_model() -> None:
    pair = [Session(world, modalities=["audio"]) for world in WORLDS.values()]
    with pytest.raises(UsageError, match="2 models"):
        together.generate(pair)
    assert together.generate([]) == []
    assert together.append([]) == []
