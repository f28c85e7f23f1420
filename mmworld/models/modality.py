"""What the core asks of a modality adapter, and the laws that hold for every one."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmworld.types import Chunk, Source, Tokens


class Modality(Protocol):
    """An adapter from chunks of one sense to tokens: I/O in `open`, weights in `encode`. See docs/adding-a-modality.md.

    Attributes:
        name: the `modality` of the chunks it takes.
        hop: seconds of a block; block i of a stream is [t0 + i * hop, t0 + (i + 1) * hop). 0: a row is a block.
        rate: rows of a chunk's data a second; None if they come at no fixed rate.
        dim: width of a token.

    More members are used where an adapter has them: `encode_many(chunks) -> list[Tokens]`, the packed form of `encode`
    over whole streams; `encode_next(chunks, states) -> list[Tokens]`, that over the next chunk of each of several, of
    which no state moves where it raises; `split(chunk, row) -> (Chunk, Chunk)`, for chunks that rate alone cannot part.
    """

    name: str
    hop: float
    rate: float | None
    dim: int

    def open(self, source: Source, **options: Any) -> Iterator[Chunk]:
        """Chunks of a source, the last of them marked; no weights are touched."""
        ...

    def init_state(self) -> Any:
        """The state of a fresh stream; mutable, with fork()."""
        ...

    def encode(self, chunk: Chunk, state: Any = None) -> Tokens:
        """Tokens of the blocks that `chunk` completes; the state moves on. None is a fresh stream."""
        ...


def encode_many(modality: Any, chunks: Sequence[Chunk]) -> list[Tokens]:
    """Each chunk as a whole stream of its own, in one packed pass where the modality has one. Differentiable."""
    if hasattr(modality, "encode_many"):
        return modality.encode_many(chunks)
    return [modality.encode(replace(c, last=True)) for c in chunks]


def split(modality: Any, chunk: Chunk, row: int) -> tuple[Chunk, Chunk]:
    """`chunk` in two, before and from `row` of its data.

    Raises:
        TypeError: the modality has neither a rate nor `split`, so the time of a row is unknown.
    """
    if hasattr(modality, "split"):
        return modality.split(chunk, row)
    if modality.hop == 0:
        return replace(chunk, data=chunk.data[:row], last=False), replace(chunk, data=chunk.data[row:])
    if modality.rate is None:
        raise TypeError(f"{modality.name} has no rate: give it split(chunk, row)")
    middle = min(chunk.start + row / modality.rate, chunk.end)
    first = replace(chunk, data=chunk.data[:row], end=middle, last=False)
    return first, replace(chunk, data=chunk.data[row:], start=middle)


def check_modality(
    modality: Any, source: Source | Chunk | Iterable[Chunk], *, seed: int = 0, rounds: int = 3, tolerance: float = 1e-5
) -> None:
    """Check the laws of a modality on one stream: its blocks tile time, and are the same however it is chunked.

    Args:
        modality: an adapter, on any device; its mode (training or not) is kept.
        source: what `open` takes, or the chunks of one stream; best longer than the adapter's memory.
        seed: of the random cuts.
        rounds: how often each law that draws cuts is checked.
        tolerance: largest difference, relative to the largest value.

    Raises:
        AssertionError: a law does not hold; the message names the modality and the law.
    """
    chunks = _chunks(modality, source)
    rng = random.Random(seed)
    with _evaluating(modality), torch.no_grad():
        whole = _run(modality, chunks)
        _check_tokens(modality, whole, chunks)
        for _ in range(rounds):
            _check_chunking(modality, chunks, whole, rng, tolerance)
            _check_causality(modality, chunks, whole, rng, tolerance)
        _check_isolation(modality, chunks, whole, tolerance)
        _check_batch(modality, chunks, rng, tolerance)
        _check_next(modality, chunks, rng, tolerance)
        _check_moves(modality, chunks, whole)


def _chunks(modality: Any, source: Any) -> list[Chunk]:
    if isinstance(source, Chunk):
        source = [source]
    is_source = isinstance(source, str | bytes) or hasattr(source, "__fspath__") or hasattr(source, "read")
    chunks = list(modality.open(source) if is_source else source)
    if not chunks:
        raise AssertionError(f"{modality.name}: no chunks to check it on")
    return [*chunks[:-1], replace(chunks[-1], last=True)]


@contextmanager
def _evaluating(modality: Any) -> Iterator[None]:
    modules = list(modality.modules()) if isinstance(modality, nn.Module) else []
    training = [m.training for m in modules]
    for m in modules:
        m.training = False
    try:
        yield
    finally:
        for m, was in zip(modules, training, strict=True):
            m.training = was


def _run(modality: Any, chunks: Iterable[Chunk], state: Any = None) -> Tokens:
    state = state if state is not None else modality.init_state()
    return Tokens.join([modality.encode(c, state) for c in chunks])


def _recut(modality: Any, chunks: Sequence[Chunk], rng: random.Random) -> list[Chunk]:
    """The same stream in other pieces: neighbours joined, cut anew at random rows, some of one row or of none."""
    out: list[Chunk] = []
    for chunk in _merge(modality, chunks):
        n = len(chunk.data)
        cuts = [rng.randint(0, n) for _ in range(rng.randint(0, 6))]
        cuts += [min(c + 1, n) for c in cuts[:2]]
        rest, done = chunk, 0
        for cut in sorted(cuts):
            piece, rest = split(modality, rest, cut - done)
            done = cut
            out.append(piece)
        out.append(rest)
    if rng.random() < 0.5:
        final = out[-1]
        out[-1:] = [replace(final, last=False), replace(final, data=final.data[:0], start=final.end)]
    return out


def _merge(modality: Any, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    if modality.rate is None or len(chunks) == 1:
        return chunks
    data = torch.cat([c.data for c in chunks if len(c.data)] or [chunks[0].data])
    return [replace(chunks[-1], data=data, start=chunks[0].start)]


def _prefix(modality: Any, chunks: Sequence[Chunk], rng: random.Random) -> list[Chunk]:
    """A random beginning of the stream, ended there."""
    at = rng.randrange(len(chunks))
    head, _ = split(modality, chunks[at], rng.randint(0, len(chunks[at].data)))
    return [*chunks[:at], replace(head, last=True)]


def _assert_same(a: Tokens, b: Tokens, law: str, tolerance: float) -> None:
    assert a.blocks == b.blocks, f"{law}: blocks of {a.blocks} tokens became {b.blocks}"
    for mine, its in ((a.start, b.start), (a.end, b.end)):
        assert torch.allclose(mine, its, rtol=0, atol=1e-6), f"{law}: block times differ: {a!r} became {b!r}"
    off = _difference(a.x, b.x)
    assert off <= tolerance, f"{law}: tokens differ by {off:.1e}, the limit is {tolerance:.0e}"


def _difference(a: Tensor, b: Tensor) -> float:
    a, b = a.double().cpu(), b.double().cpu()
    return float((a - b).abs().max() / a.abs().max().clamp(min=1e-30)) if a.numel() else 0.0


def _check_tokens(modality: Any, tokens: Tokens, chunks: Sequence[Chunk]) -> None:
    law = f"{modality.name}: tiling"
    assert tokens.x.shape[1] == modality.dim, f"{law}: tokens are {tokens.x.shape[1]} wide, dim is {modality.dim}"
    assert tokens.x.isfinite().all(), f"{law}: tokens are not finite"
    assert min(tokens.blocks, default=1) > 0, f"{law}: a block has no tokens"
    spans = _spans(tokens)
    start, end = torch.tensor(spans, dtype=torch.float64).view(-1, 2).T
    sizes = torch.tensor(tokens.blocks, dtype=torch.long)
    assert torch.equal(tokens.start, start.repeat_interleave(sizes)), f"{law}: the tokens of a block differ in time"
    if not modality.hop:
        return
    t0 = next((c.start for c in chunks if len(c.data) or modality.rate is None), chunks[0].start)
    grid = t0 + torch.arange(len(start) + 1, dtype=torch.float64) * modality.hop
    assert torch.allclose(start, grid[:-1], rtol=0, atol=1e-6), f"{law}: block i does not start at t0 + i * hop"
    assert torch.allclose(end[:-1], grid[1:-1], rtol=0, atol=1e-6), f"{law}: a block does not end where the next starts"
    row = 0.5 / modality.rate if modality.rate else 0.0
    last = float(end[-1]) if len(end) else t0
    assert last <= float(grid[-1]) + 1e-6, f"{law}: the last block is longer than a hop"
    assert last >= chunks[-1].end - row - 1e-6, f"{law}: the stream goes on to {chunks[-1].end}, its blocks to {last}"


def _check_chunking(m: Any, chunks: Sequence[Chunk], whole: Tokens, rng: random.Random, tolerance: float) -> None:
    pieces = _recut(m, chunks, rng)
    law = f"{m.name}: chunking in {[len(p.data) for p in pieces]} rows"
    _assert_same(whole, _run(m, pieces), law, tolerance)


def _check_causality(m: Any, chunks: Sequence[Chunk], whole: Tokens, rng: random.Random, tolerance: float) -> None:
    prefix = _prefix(m, chunks, rng)
    law = f"{m.name}: causality, the stream without what follows {prefix[-1].end:.3f} s"
    early = _run(m, prefix)
    complete = sum(b <= float(prefix[-1].end) + 1e-6 and b - a >= m.hop - 1e-6 for a, b in _spans(early))
    n = sum(early.blocks[:complete])
    _assert_same(_head(whole, complete, n), _head(early, complete, n), law, tolerance)


def _spans(tokens: Tokens) -> list[tuple[float, float]]:
    first = torch.tensor([0, *tokens.blocks], dtype=torch.long).cumsum(0)[:-1]
    return list(zip(tokens.start[first].tolist(), tokens.end[first].tolist(), strict=True))


def _head(tokens: Tokens, blocks: int, n: int) -> Tokens:
    return Tokens(tokens.x[:n], tokens.start[:n], tokens.end[:n], tokens.blocks[:blocks])


def _check_isolation(m: Any, chunks: Sequence[Chunk], whole: Tokens, tolerance: float) -> None:
    """A stream, a second one beside it, and a fork that goes its own way do not touch one another."""
    *before, middle = chunks[: len(chunks) // 2 + 1]
    first, second = split(m, middle, len(middle.data) // 2)
    one, other = m.init_state(), m.init_state()
    parts = []
    for piece in (*before, first):
        parts.append(m.encode(piece, one))
        m.encode(replace(piece, data=piece.data.flip(0)) if m.rate else piece, other)
    fork = one.fork()
    rest = [second, *chunks[len(before) + 1 :]]
    for state, name in ((one, "two states"), (fork, "a fork")):
        own = [m.encode(piece, state) for piece in rest]
        _assert_same(whole, Tokens.join([*parts, *own]), f"{m.name}: isolation of {name}", tolerance)


def _check_batch(m: Any, chunks: Sequence[Chunk], rng: random.Random, tolerance: float) -> None:
    whole = replace(_merge(m, chunks)[0], last=True)
    streams = [whole, *_prefix(m, [whole], rng), whole]
    for one, packed in zip(streams, encode_many(m, streams), strict=True):
        _assert_same(m.encode(one), packed, f"{m.name}: encode_many", tolerance)


def _check_next(m: Any, chunks: Sequence[Chunk], rng: random.Random, tolerance: float) -> None:
    if not hasattr(m, "encode_next"):
        return
    streams = [_recut(m, chunks, rng) for _ in range(3)]
    if m.rate:
        streams[1] = [replace(c, data=c.data.flip(0)) for c in streams[1]]
    states, made = [m.init_state() for _ in streams], [list[Tokens]() for _ in streams]
    for i in range(max(map(len, streams))):
        here = [n for n, pieces in enumerate(streams) if i < len(pieces)]
        tokens = m.encode_next([streams[n][i] for n in here], [states[n] for n in here])
        for n, part in zip(here, tokens, strict=True):
            made[n].append(part)
    for pieces, parts in zip(streams, made, strict=True):
        _assert_same(_run(m, pieces), Tokens.join(parts), f"{m.name}: encode_next", tolerance)


def _check_moves(m: Any, chunks: Sequence[Chunk], whole: Tokens) -> None:
    if not isinstance(m, nn.Module):
        return
    moves: list[dict[str, Any]] = [{"dtype": torch.float64}]
    if torch.cuda.is_available():
        moves.append({"device": "cuda"})
    for move in moves:
        moved = copy.deepcopy(m).to(**move)
        _assert_same(whole, _run(moved, chunks), f"{m.name}: move to {move}", 1e-2)
