"""The five built-in modalities together: streamed in pieces, the context is that of the packed pass."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from toy import toy_tokenizer

from mmworld.models.modality import split
from mmworld.models.session import Session
from mmworld.models.world import Item, World, WorldConfig
from mmworld.nn.state import KVState
from mmworld.nn.transformer import TransformerConfig
from mmworld.stream.ops import merge
from mmworld.types import Chunk

SMALL = {"dim": 32, "depth": 1, "hidden": 48, "window": 3, "width": 8}


@pytest.fixture(scope="module")
def world() -> World:
    torch.manual_seed(0)
    adapters = {"image": SMALL, "video": SMALL, "audio": SMALL, "points": SMALL, "sensor": SMALL}
    tokenizer = toy_tokenizer()
    return World(WorldConfig(TransformerConfig(32, 2, 2, norm="rms"), adapters, len(tokenizer)), tokenizer).eval()


def whole_streams(seed: int) -> list[Chunk]:
    g = torch.Generator().manual_seed(seed)
    sweeps = torch.randn(600, 12, generator=g)
    sweeps[:, 11] = torch.linspace(0, 1.9, 600).mul(10).floor().div(10)  # a sweep every 0.1 s
    picture = torch.randint(0, 256, (1, 3, 96, 96), generator=g, dtype=torch.uint8)
    frames = torch.randint(0, 256, (9, 3, 96, 96), generator=g, dtype=torch.uint8)
    return [
        Chunk(picture, 0.5, 0.5, "image", last=True),
        Chunk(frames, 0.0, 2.25, "video", last=True),
        Chunk(torch.randn(40_000, 1, generator=g) * 0.1, 0.1, 2.6, "audio", last=True),
        Chunk(sweeps, 0.0, 2.0, "points", last=True),
        Chunk(torch.randn(40, 5, generator=g), 0.0, 2.5, "sensor", last=True),
    ]


def pieces(world: World, chunk: Chunk, rng: random.Random) -> list[Chunk]:
    out, rest, done = [], chunk, 0
    for at in sorted(rng.randint(0, len(chunk.data)) for _ in range(3)):
        piece, rest = split(world.adapters[chunk.modality], rest, at - done)
        done = at
        out.append(replace(piece, last=False))
    return [*out, rest]


def close(a: KVState, b: KVState) -> bool:
    pairs = zip(a.values, b.values, strict=True)
    return all(float((x.x - y.x).abs().max()) < 2e-5 * float(y.x.abs().max()) for x, y in pairs)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
def test_streamed_is_packed(world: World, seed: int) -> None:
    streams, rng = whole_streams(seed), random.Random(seed)
    session = Session(world, modalities=[c.modality for c in streams])
    for chunk in merge(*(pieces(world, c, rng) for c in streams)):
        session.append(chunk)
    packed = world.pack([streams], [()])
    fresh = Session(world, modalities=[]).context
    world.backbone(packed.x[None], packed.mask, fresh)
    assert session.context.blocks == fresh.blocks
    assert close(session.context, fresh)


@torch.no_grad()
def test_a_saved_session_holds_every_encoder(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    streams = whole_streams(7)
    cuts = [pieces(world, c, random.Random(7)) for c in streams]
    session = Session(world, modalities=[c.modality for c in streams])
    for chunk in (c for cut in cuts for c in cut[:2]):
        session.append(chunk)
    path = tmp_path_factory.mktemp("session") / "s.safetensors"
    session.save(path)
    loaded = Session.load(world, path)
    for chunk in (c for cut in cuts for c in cut[2:]):
        session.append(chunk)
        loaded.append(chunk)
    assert loaded.context.blocks == session.context.blocks
    assert close(loaded.context, session.context)


def test_one_batch_of_every_mixture(world: World) -> None:
    streams = whole_streams(3)
    batch = [Item(tuple(streams[i:j]), (1, 5, 6, 2)) for i in range(5) for j in range(i, 6)]
    together = world(batch).split(3)
    for item, logits in zip(batch, together, strict=True):
        torch.testing.assert_close(logits, world([item]), rtol=1e-4, atol=2e-5)
