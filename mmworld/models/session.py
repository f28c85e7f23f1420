"""One live stream of any mixture: chunks come in as they arrive, text comes out when asked for."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmworld.attention import CAUSAL, Mask
from mmworld.errors import ConfigError, LimitError, UsageError
from mmworld.generate.beam import Beam
from mmworld.generate.decode import Generation, answer, ask, stream
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import STOP, Stop
from mmworld.models import snapshot
from mmworld.models.keep import Keep
from mmworld.models.layout import tick
from mmworld.models.world import World
from mmworld.nn.state import KVState
from mmworld.stream.economy import Economy
from mmworld.types import Chunk, Gap, Tokens

MAX_WAITING = 4096
"""Blocks that may wait for a stream that lags behind."""


@dataclass(frozen=True, eq=False)
class Block:
    """One block of one modality's tokens."""

    modality: str
    tokens: Tokens

    @property
    def start(self) -> float:
        return float(self.tokens.start[0])

    @property
    def end(self) -> float:
        return float(self.tokens.end[0])


NO_BLOCK = Block("", Tokens(torch.zeros(0, 0), torch.zeros(0), torch.zeros(0), ()))
"""What a saved one is restored into."""


@dataclass
class Stream:
    """Where one modality stands.

    Attributes:
        state: of its encoder.
        start: of its first chunk; None before that.
        clock: end of its last chunk.
        heard: end of its last chunk that was not empty.
        done: no block that ends by then is still to come.
        empty: no rows, of the shape of its last chunk's; None where the encoder holds nothing back.
        seen: the last token that was kept in each place of a block, where there is an `Economy`.
        given, kept: tokens that the encoder made, and those of them that went on.
        open: whether chunks may still come.
    """

    state: Any
    start: float | None = None
    clock: float = -math.inf
    heard: float = -math.inf
    done: float = -math.inf
    open: bool = True
    empty: Tensor | None = None
    seen: Tensor | None = None
    given: int = 0
    kept: int = 0

    def fork(self) -> Stream:
        state = self.state.fork() if hasattr(self.state, "fork") else copy.deepcopy(self.state)
        return replace(self, state=state)


class Session:
    """One stream of any mixture of modalities, seen by one World; several sessions share its weights.

    A block waits until every open stream has passed its end and then enters the backbone in (end, modality) order, so
    the context depends neither on how streams are chunked nor on which arrives first. It equals that of `World.forward`
    on the whole streams.

    Args:
        modalities: names of the streams that will come.
        window: blocks kept, and `sinks` first ones that always stay; None keeps all.
        keep: what is kept of each modality, in the place of both.
        economy: of a modality, which tokens are worth their place; none: all.

    Raises:
        ConfigError: the model has no adapter of that name.
    """

    def __init__(
        self,
        world: World,
        *,
        modalities: Sequence[str],
        window: int | None = None,
        sinks: int = 0,
        keep: Keep | None = None,
        economy: Mapping[str, Economy] | None = None,
    ) -> None:
        if unknown := [n for n in modalities if n not in world.adapters]:
            raise ConfigError(f"this model has no adapter for {', '.join(unknown)}", hint=f"has {list(world.adapters)}")
        self.world, self.economy = world, dict(economy or {})
        self.origin: float | None = None
        limits = keep.limits(world, modalities) if keep else ()
        self.context = KVState(window, keep.sinks if keep else sinks, limits=limits)
        self.streams = {n: Stream(_adapter(world, n).init_state()) for n in modalities}
        self._waiting: list[tuple[float, str, int, Block]] = []  # a heap by (tick of end, modality, arrival)
        self._arrived = 0

    @property
    def clock(self) -> float:
        """Seconds up to which every stream has been received; -inf before all have begun."""
        clocks = [s.clock for s in self.streams.values() if s.open]
        return min(clocks) if clocks else max((s.clock for s in self.streams.values()), default=-math.inf)

    @property
    def done(self) -> float:
        """Seconds up to which no more blocks can come; inf once every stream has ended."""
        return min((s.done for s in self.streams.values() if s.open), default=math.inf)

    @property
    def begin(self) -> float:
        """When the first stream began."""
        return min((s.start for s in self.streams.values() if s.start is not None), default=math.inf)

    @property
    def next(self) -> Block | None:
        """The block that enters next, of those that wait."""
        return self._waiting[0][-1] if self._waiting else None

    @property
    def left(self) -> bool:
        """Whether blocks wait of a stream that has ended."""
        return any(not self.streams[block.modality].open for *_, block in self._waiting)

    @property
    def ended(self) -> bool:
        """Whether every stream has ended."""
        return not any(s.open for s in self.streams.values())

    @property
    def nbytes(self) -> int:
        """Bytes of tensors held."""
        states = [self.context, *(s.state for s in self.streams.values()), *(b.tokens for *_, b in self._waiting)]
        return sum(map(snapshot.nbytes, states))

    def append(self, chunk: Chunk) -> None:
        """Take the next chunk of its stream, and all blocks that are due into the context.

        Raises:
            UsageError: its modality was not announced, has ended, or the chunk starts before the last one.
            LimitError: another stream lags so far behind that MAX_WAITING blocks wait for it.
        """
        self.feed(chunk)
        self.enter(self.due())

    @torch.no_grad()
    def feed(self, chunk: Chunk) -> None:
        """Encode a chunk; its blocks wait until `due` hands them out. Raises as `append` does."""
        self.take(chunk, self.encoded(chunk))

    def encoded(self, chunk: Chunk) -> Tokens:
        """What the encoder makes of the next chunk of its stream. Raises UsageError as `append` does."""
        stream = self.expect(chunk)
        return _adapter(self.world, chunk.modality).encode(chunk, stream.state)

    def take(self, chunk: Chunk, tokens: Tokens) -> None:
        """Take a chunk and what its encoder made of it. Raises LimitError as `append` does."""
        stream, adapter = self.streams[chunk.modality], _adapter(self.world, chunk.modality)
        stream.start = chunk.start if stream.start is None else stream.start
        stream.clock, stream.open = max(stream.clock, chunk.end), not chunk.last
        stream.heard = stream.clock if len(chunk.data) else stream.heard
        stream.empty = chunk.data[:0].clone() if stream.open else None  # not a view of the whole chunk
        for block in split(chunk.modality, tokens):
            self._push(self._thinned(block))
            stream.done = block.end
        stream.done = max(stream.done, stream.clock - adapter.hop)  # a hop without tokens must not hold up the others
        if len(self._waiting) > MAX_WAITING and self._waiting[0][0] > tick(self.done):
            slow = min((n for n, s in self.streams.items() if s.open), key=lambda n: self.streams[n].done)
            message = f"{len(self._waiting)} blocks wait for the stream {slow!r}"
            raise LimitError("waiting", message, hint="append chunks of all streams in the order of their ends")

    def expect(self, chunk: Chunk | Gap) -> Stream:
        """Where the modality of the next chunk stands. Raises UsageError as `append` does."""
        stream = self.streams.get(chunk.modality)
        if stream is None:
            raise UsageError(f"{chunk!r}: this session has {', '.join(self.streams)}")
        if not stream.open:
            raise UsageError(f"{chunk!r}: that stream has ended")
        if chunk.start < stream.heard - 1e-3:
            raise UsageError(f"{chunk!r}: starts before the last one's end at {stream.heard:.3f} s")
        return stream

    @torch.no_grad()
    def skip(self, gap: Gap) -> None:
        """Nothing comes until a gap's end: what the encoder holds back comes out, and what follows is a fresh stream
        to it, so that no sound is heard across the gap. Blocks that are due wait as after `feed`.

        Raises:
            UsageError: its modality was not announced, has ended, or the gap starts before the last chunk's end.
        """
        stream = self.expect(gap)
        self._flush(gap.modality)
        stream.state = _adapter(self.world, gap.modality).init_state()
        stream.start = gap.start if stream.start is None else stream.start
        stream.clock = stream.heard = stream.done = max(stream.clock, gap.end)

    @torch.no_grad()
    def close(self, name: str) -> None:
        """The stream `name` ends, without a last chunk."""
        self._flush(name)
        self.streams[name].open = False

    def due(self, until: float = math.inf, most: float = math.inf) -> list[Block]:
        """Take out the waiting blocks that end by `until` and that no earlier block can follow, in order; the first so
        many of them."""
        limit = tick(min(until, self.done))
        blocks: list[Block] = []
        while self._waiting and self._waiting[0][0] <= limit and len(blocks) < most:
            blocks.append(heappop(self._waiting)[-1])
        return blocks

    @torch.no_grad()
    def enter(self, blocks: Sequence[Block]) -> None:
        """Put blocks, in order, into the context."""
        for kind, run in self.runs(blocks):
            self.context.kind = kind
            x = torch.cat(observed(self.world, run, [self.zero] * len(run)))
            self.world.backbone(x[None], Mask("blocks", tuple(len(b.tokens) for b in run)), self.context)

    def runs(self, blocks: Sequence[Block]) -> Iterator[tuple[int, list[Block]]]:
        """Blocks, in order, as they enter: those of one kind at once, and of which kind they are to the context."""
        for name, run in groupby(blocks, lambda b: b.modality if self.context.limits else ""):
            yield list(self.streams).index(name) if name else 0, list(run)

    @property
    def zero(self) -> float:
        """Seconds from which the time in the context is counted, from its first block on."""
        self.origin = self.begin if self.origin is None else self.origin
        return self.origin

    def generate(self, prompt: str = "", sampler: Sampler | Beam = GREEDY, stop: Stop = STOP) -> Generation:
        """What the model says of the context; the context stays as it is."""
        return answer(self.world, [self.context], prompt, sampler, stop)[0]

    @torch.no_grad()
    def pieces(self, prompt: str = "", sampler: Sampler = GREEDY, stop: Stop = STOP) -> Iterator[str]:
        """The text of `generate`, piece by piece as it is made."""
        context, logits = ask(self.world, [self.context], prompt)
        yield from stream(self.world, context, logits, sampler, stop, [self.world.prompt(prompt)])

    @torch.no_grad()
    def commit(self, ids: Sequence[int]) -> None:
        """Put text into the context, each id a block of its own."""
        if len(ids):
            self.context.kind = max(len(self.context.limits) - 1, 0)
            self.world.backbone(self.world.embed(torch.tensor([ids])), CAUSAL, self.context)

    def clear(self, origin: float | None = None) -> None:
        """Forget the context; encoders and clocks go on, and time is counted from `origin`, or else from now."""
        self.context = KVState(self.context.window, self.context.sinks, limits=self.context.limits)
        self.origin = self.clock if origin is None else origin

    def fork(self) -> Session:
        """An independent session that goes on from here; tensors are shared until either side moves."""
        other = copy.copy(self)
        other.context = self.context.fork()
        other.streams = {n: s.fork() for n, s in self.streams.items()}
        other._waiting = list(self._waiting)
        return other

    def save(self, path: Path | str) -> None:
        """Write all that the session remembers, not the model, as safetensors. Raises ResourceError as a save does."""
        snapshot.write(path, "session", self.leaves())

    @classmethod
    def load(cls, world: World, path: Path | str) -> Session:
        """The session that `save` wrote, to go on with the same model.

        Raises:
            CheckpointError: the file is damaged or not a session's.
            ConfigError: the model lacks one of its modalities.
        """
        return snapshot.read(path, "session", lambda values: cls.restored(world, values))

    def leaves(self) -> dict[str, Any]:
        """All that it remembers, by name: tensors and plain values."""
        values = {"modalities": list(self.streams), "origin": self.origin, "waiting": len(self._waiting)}
        values |= snapshot.leaves(self.context, "context")
        for name, heard in self.streams.items():
            values |= snapshot.leaves(heard, f"streams.{name}")
        for i, (*_, block) in enumerate(sorted(self._waiting, key=lambda w: w[:3])):
            values |= snapshot.leaves(block, f"waiting.{i}")
        return values

    @classmethod
    def restored(cls, world: World, values: Mapping[str, Any], **made: Any) -> Session:
        """The session whose `leaves` these are, `made` as it is made."""
        values = snapshot.on(values, world.embedding.device)
        session = cls(world, modalities=values["modalities"], **made)
        session.origin = values["origin"]
        session.context = snapshot.restore(session.context, values, "context")
        session.streams = {n: snapshot.restore(s, values, f"streams.{n}") for n, s in session.streams.items()}
        for i in range(values["waiting"]):
            session._push(snapshot.restore(NO_BLOCK, values, f"waiting.{i}"))
        return session

    def _thinned(self, block: Block) -> Block:
        """The block without the tokens that are not worth their place."""
        stream, x = self.streams[block.modality], block.tokens.x
        if (economy := self.economy.get(block.modality)) is not None:
            x, stream.seen = economy.thin(x, stream.seen)
        stream.given, stream.kept = stream.given + len(block.tokens), stream.kept + len(x)
        if len(x) == len(block.tokens):
            return replace(block, tokens=replace(block.tokens, x=x))
        start, end = block.tokens.start[: len(x)], block.tokens.end[: len(x)]
        return Block(block.modality, Tokens(x, start, end, (len(x),)))

    def _flush(self, name: str) -> None:
        """Have out what the encoder of the stream `name` holds back."""
        stream = self.streams[name]
        if stream.empty is None:
            return
        rest = Chunk(stream.empty, stream.clock, stream.clock, name, last=True)
        for block in split(name, _adapter(self.world, name).encode(rest, stream.state)):
            self._push(self._thinned(block))
        stream.empty = None

    def _push(self, block: Block) -> None:
        heappush(self._waiting, (tick(block.end), block.modality, self._arrived, block))
        self._arrived += 1


def split(modality: str, tokens: Tokens) -> Iterator[Block]:
    """The blocks of `tokens` one by one; empty ones are left out."""
    at = 0
    for n in tokens.blocks:
        part = slice(at, at + n)
        if n:
            yield Block(modality, Tokens(tokens.x[part], tokens.start[part], tokens.end[part], (n,)))
        at += n


def observed(world: World, blocks: Sequence[Block], origins: Sequence[float]) -> list[Tensor]:
    """The tokens of each block as the backbone takes them [N, D], where its time is counted from that origin; each
    modality's in one go."""
    parts: dict[int, Tensor] = {}
    for name in {b.modality for b in blocks}:
        mine = [i for i, b in enumerate(blocks) if b.modality == name]
        tokens = Tokens.join([blocks[i].tokens for i in mine])
        zero = torch.tensor([origins[i] for i in mine], dtype=torch.float64)
        x = world.observe(name, tokens, zero.repeat_interleave(torch.tensor(tokens.blocks)))
        parts.update(zip(mine, x.split(tokens.blocks), strict=True))
    return [parts[i] for i in range(len(blocks))]


def _adapter(world: World, name: str) -> Any:
    return world.adapters[name]
