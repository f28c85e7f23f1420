"""Rolling: a stream of pieces of several kinds is what it is by definition, bounded in memory and in positions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from hypothesis import given
from hypothesis import strategies as st
from masks import relative_error
from rolled import by_definition, positions, seen_by
from torch import Tensor

from mmworld.attention import CAUSAL
from mmworld.models import snapshot
from mmworld.nn.position import Rotary
from mmworld.nn.rolling import Piece, Rolling
from mmworld.nn.streams import Streams
from mmworld.nn.transformer import Transformer, TransformerConfig

CONFIG = TransformerConfig(dim=24, depth=2, n_heads=4, n_kv_heads=2, hidden=32)
LIMITS = {torch.float64: 1e-10, torch.float32: 1e-5}


def model(sections: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Transformer:
    torch.manual_seed(0)
    return Transformer(CONFIG, position=Rotary(6, sections=sections)).to(dtype).eval()


def layers(net: Transformer) -> Callable[..., Tensor]:
    """As a decoder of text reads."""
    return lambda x, state, places: net(x, CAUSAL, state, places=places)


@st.composite
def streams(draw: st.DrawFn) -> list[Piece]:
    """An opening, words, and grids that stand on two axes or on one."""
    return draw(st.sampled_from([0, 2]).flatmap(on_axes))


@st.composite
def on_axes(draw: st.DrawFn, axes: int) -> list[Piece]:
    out = [words(0, draw(st.integers(1, 3)), axes)]
    for _ in range(draw(st.integers(0, 14))):
        if draw(st.booleans()):
            out.append(words(2, n := draw(st.integers(1, 4)), axes, weight=n))
            continue
        h, w = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        at = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")).flatten(1)
        weight = draw(st.sampled_from([0.5, 0.1, 1.0]))
        out.append(Piece(1, at, max(h, w), weight) if axes else words(1, h * w, 0, weight=weight))
    return out


def words(kind: int, n: int, axes: int, weight: float = 0.0) -> Piece:
    at = torch.arange(n)
    return Piece(kind, at.expand(axes, n) if axes else at, n, weight)


def tokens(pieces: list[Piece], dtype: torch.dtype) -> list[Tensor]:
    sizes = [p.at.shape[-1] for p in pieces]
    x = torch.randn(1, sum(sizes), 24, generator=torch.Generator().manual_seed(len(sizes)), dtype=torch.float64)
    return list(x.to(dtype).split(sizes, dim=1))


def sections(pieces: list[Piece]) -> tuple[int, ...]:
    return (2, 1) if pieces[0].at.ndim > 1 else ()


budgets = st.tuples(st.just(math.inf), st.sampled_from([0.1, 1.0, 2.0]), st.integers(1, 9).map(float))


@torch.no_grad()
@given(streams(), budgets, st.sampled_from(sorted(LIMITS, key=str)), st.data())
def test_it_is_what_it_is_by_definition(
    pieces: list[Piece], most: tuple[float, ...], dtype: torch.dtype, data: st.DataObject
) -> None:
    """With forks that go on apart, and saves, between the pieces."""
    net, xs, rolling = model(sections(pieces), dtype), tokens(pieces, dtype), Rolling(most)
    outs = []
    for x, piece in zip(xs, pieces, strict=True):
        if data.draw(st.booleans()):
            other = rolling.fork()
            other.enter(-x, piece, layers(net))
            rolling = snapshot.restore(Rolling(()), snapshot.leaves(rolling, "x"), "x")
        outs.append(rolling.enter(x, piece, layers(net)))
    assert relative_error(torch.cat(outs, dim=1), by_definition(net, xs, pieces, most)) <= LIMITS[dtype]
    held = seen_by(pieces, most)[-1]
    assert torch.equal(torch.atleast_2d(rolling.places), positions(pieces, held))
    assert rolling.end == sum(pieces[j].span for j in held)


several = st.sampled_from([0, 2]).flatmap(lambda axes: st.lists(on_axes(axes), min_size=1, max_size=3))


@torch.no_grad()
@given(several, budgets, st.integers(1, 4))
def test_what_is_not_kept_goes_on_from_ordinary_states(
    several: list[list[Piece]], most: tuple[float, ...], n: int
) -> None:
    """Alone, and side by side with others; what is held neither goes nor changes."""
    net, states, want = model(sections(several[0])), [], []
    said = torch.randn(1, n, 24, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    for pieces in several:
        rolling, xs = Rolling(most), tokens(pieces, torch.float64)
        for x, piece in zip(xs, pieces, strict=True):
            rolling.enter(x, piece, layers(net))
        states.append(rolling.settled(net.position))
        kept = words(3, n, len(sections(pieces)))
        want.append(by_definition(net, [*xs, said], [*pieces, kept], (*most, math.inf))[:, -n:])
    alone = [net(said, CAUSAL, s.fork()) for s in states]
    assert relative_error(torch.cat(alone), torch.cat(want)) < 1e-10
    beside = net(said.expand(len(states), -1, -1), CAUSAL, Streams(states))
    assert relative_error(beside, torch.cat(want)) < 1e-10


@torch.no_grad()
def test_a_long_stream_costs_what_a_short_one_does() -> None:
    net, rolling, most = model((2, 1), torch.float32), Rolling((math.inf, 3.0, 8.0)), 0
    grid = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij")).flatten(1)
    opening, film, text = words(0, 2, 2), Piece(1, grid, 3, 1.0), words(2, 4, 2, weight=4)
    x = torch.randn(50, 1, 6, 24, generator=torch.Generator().manual_seed(0))
    rolling.enter(x[0][:, :2], opening, layers(net))
    for i in range(500):
        late = rolling.enter(x[i % 50], film, layers(net))
        if i % 5 == 4:
            rolling.enter(x[i % 50][:, :4], text, layers(net))
        if i < 100:
            most, early = max(most, rolling.nbytes), late
        assert rolling.nbytes <= most
        assert rolling.end <= 2 + 3 * 3 + 8
    assert sum(rolling.weights) == 3 + 8
    assert relative_error(late, early) < 1e-4  # the same pieces are held
