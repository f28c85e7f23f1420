"""A toy modality that keeps every law, in five names and paces, and a small World over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmworld.config import config
from mmworld.models.world import World, WorldConfig
from mmworld.nn.transformer import TransformerConfig
from mmworld.registry import modalities
from mmworld.text.tokenizer import Tokenizer
from mmworld.types import Chunk, Source, Tokens

CHANNELS = 3


@config
class ToyConfig:
    dim: int = 8


@dataclass
class ToyState:
    """Samples that wait for their block, the float64 sum of all samples before them, and what has been emitted."""

    waiting: Tensor
    total: Tensor
    origin: float | None = None
    emitted: int = 0

    def fork(self) -> ToyState:
        return ToyState(self.waiting, self.total, self.origin, self.emitted)


class Toy(nn.Module):
    """Blocks of `tokens` tokens for each `samples` samples; a block depends on all that came before it."""

    name, hop, rate, samples, tokens = "toy", 0.5, 8.0, 4, 2

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.runs = 0
        self.linear = nn.Linear(CHANNELS * self.samples, config.dim * self.tokens)
        self.past = nn.Linear(CHANNELS, config.dim)

    def open(self, source: Source, **options: object) -> Iterator[Chunk]:
        raise NotImplementedError

    def init_state(self) -> ToyState:
        return ToyState(torch.zeros(0, CHANNELS), torch.zeros(CHANNELS, dtype=torch.float64))

    def encode(self, chunk: Chunk, state: ToyState | None = None) -> Tokens:
        self.runs += 1
        state = state or self.init_state()
        state.origin = chunk.start if state.origin is None else state.origin
        waiting = torch.cat((state.waiting, chunk.data))
        if chunk.last and len(waiting) % self.samples:
            waiting = torch.cat((waiting, torch.zeros(-len(waiting) % self.samples, CHANNELS)))
        n = len(waiting) // self.samples
        state.waiting = waiting[n * self.samples :]
        blocks = waiting[: n * self.samples].unflatten(0, (n, self.samples))
        sums = torch.cat((state.total[None], state.total + blocks.double().sum(1).cumsum(0)))
        state.total = sums[-1]
        dtype = self.linear.weight.dtype
        x = self.linear(blocks.flatten(1).to(dtype)).unflatten(1, (self.tokens, self.dim))
        x = (x + self.past((sums[:-1] / 10).to(dtype)).tanh()[:, None]).flatten(0, 1)
        start = state.origin + (state.emitted + torch.arange(n, dtype=torch.float64)) * self.hop
        state.emitted += n
        start = start.repeat_interleave(self.tokens)
        return Tokens(x, start, start + self.hop, (self.tokens,) * n)


class ToyVideo(Toy):
    name, hop, rate, samples, tokens = "video", 0.5, 8.0, 4, 3


class ToyAudio(Toy):
    name, hop, rate, samples, tokens = "audio", 0.1, 50.0, 5, 1


class ToyPoints(Toy):
    name, hop, rate, samples, tokens = "points", 0.3, 10.0, 3, 2


TOYS = {t.name: t for t in (ToyVideo, ToyAudio, ToyPoints)}


def toy_tokenizer() -> Tokenizer:
    texts = ["a red ball rolls over the green grass", "two dogs bark at a man who plays the drum", "it rains"]
    return Tokenizer.train(texts * 4, 300)


@contextmanager
def toy_registry() -> Iterator[None]:
    """Within it the registry knows the toys and nothing else."""
    kept, modalities._table, modalities._group = (modalities._table, modalities._group), {}, None
    modalities._table.update({name: f"toy:{kind.__name__}" for name, kind in TOYS.items()})
    try:
        yield
    finally:
        modalities._table, modalities._group = kept


def toy_world(seed: int = 0, **backbone: object) -> World:
    """A tiny World over the toy modalities, float32, in eval mode."""
    torch.manual_seed(seed)
    sizes = {"dim": 32, "depth": 2, "n_heads": 2, "hidden": 48, "norm": "rms", "activation": "silu", "gated": True}
    tokenizer = toy_tokenizer()
    c = WorldConfig(TransformerConfig(**(sizes | backbone)), {n: {} for n in TOYS}, len(tokenizer))
    with toy_registry():
        world = World(c, tokenizer).eval()
    with torch.no_grad():  # else an untrained model says its last id again and again, and bytes rather than words
        world.embedding[3:259] *= 0.1
        for layer in world.backbone.layers:
            layer.attention.out.weight *= 8
            layer.feed.down.weight *= 8
    return world


def stream(name: str, seconds: float, *, start: float = 0.0, seed: int = 0) -> Chunk:
    """A whole random stream in one chunk."""
    rate = TOYS[name].rate
    data = torch.randn(1000, CHANNELS, generator=torch.Generator().manual_seed(seed))[: round(seconds * rate)]
    return Chunk(data, start, start + len(data) / rate, name, last=True)


def cut(chunk: Chunk, sizes: Sequence[int]) -> list[Chunk]:
    """The same stream in chunks of `sizes` samples and a rest, the last one marked."""
    rate, out, at = TOYS[chunk.modality].rate, [], 0
    for size in (*sizes, len(chunk.data)):
        size = min(size, len(chunk.data) - at)
        times = chunk.start + at / rate, chunk.start + (at + size) / rate
        out.append(Chunk(chunk.data[at : at + size], *times, chunk.modality, last=False))
        at += size
    tail = out[-1]
    return [*out[:-1], Chunk(tail.data, tail.start, tail.end, tail.modality, last=True)]
