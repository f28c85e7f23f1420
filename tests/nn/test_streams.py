"""Streams side by side go on as each alone, whatever comes of each and whatever each keeps."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from masks import relative_error

from mmworld.attention import CAUSAL, Mask
from mmworld.nn.position import RelativeBias, Rotary
from mmworld.nn.state import KVState
from mmworld.nn.streams import Streams
from mmworld.nn.transformer import Transformer, TransformerConfig

CONFIG = TransformerConfig(dim=24, depth=2, n_heads=4, n_kv_heads=2, hidden=32)
torch.manual_seed(0)
MODEL = Transformer(CONFIG, position=Rotary(6)).double().eval()
KINDS = 2


@st.composite
def alike(draw: st.DrawFn, n: int) -> list[KVState]:
    """Fresh states of n streams: all of one window, or each compact in its own way."""
    window = st.none() | st.integers(1, 5)
    if draw(st.booleans()):
        return [KVState(one) for one in [draw(window)] * n]
    limits = st.lists(st.none() | st.integers(1, 4), min_size=KINDS, max_size=KINDS).map(tuple)
    return [
        KVState(draw(window), draw(st.integers(0, 2)), limits=draw(limits))
        if draw(st.booleans())
        else KVState(draw(window), draw(st.integers(1, 3)))
        for _ in range(n)
    ]


@st.composite
def comings(draw: st.DrawFn) -> tuple[list[KVState], list[list[tuple[int, tuple[int, ...]]]]]:
    """Streams, and for each of a few passes what comes of each: a kind, and blocks of it, none where nothing comes."""
    n = draw(st.integers(1, 4))
    coming = st.tuples(st.integers(0, KINDS - 1), st.lists(st.integers(1, 3), max_size=4).map(tuple))
    return draw(alike(n)), draw(st.lists(st.lists(coming, min_size=n, max_size=n), min_size=1, max_size=6))


@given(comings(), st.booleans())
def test_streams_side_by_side_go_on_as_each_alone(
    streams: tuple[list[KVState], list[list[tuple[int, tuple[int, ...]]]]], grad: bool
) -> None:
    alone, passes = streams
    together = [s.fork() for s in alone]
    generator = torch.Generator().manual_seed(0)
    for coming in passes:
        lengths = tuple(sum(blocks) for _, blocks in coming)
        x = torch.randn(1, sum(lengths), 24, generator=generator, dtype=torch.float64)
        want = []
        for states in (alone, together):
            for state, (kind, _) in zip(states, coming, strict=True):
                state.kind = kind if state.limits else 0
        with torch.set_grad_enabled(grad):
            for part, state, (_, blocks) in zip(x.split(lengths, dim=1), alone, coming, strict=True):
                want.append(MODEL(part, Mask("blocks", blocks), state) if blocks else part)
            packed = Mask("blocks", tuple(n for _, blocks in coming for n in blocks), lengths=lengths)
            got = MODEL(x, packed, Streams(together))
        assert relative_error(got, torch.cat(want, dim=1)) < 1e-10
        for a, b in zip(together, alone, strict=True):
            assert (a.blocks, a.kinds, a.next) == (b.blocks, b.kinds, b.next)
            for mine, its in zip((*a.keys, *a.values), (*b.keys, *b.values), strict=True):
                assert relative_error(mine.x, its.x) < 1e-10


@torch.no_grad()
@given(st.data(), st.integers(1, 4), st.integers(1, 3))
def test_rows_that_are_streams_can_be_chosen_anew(data: st.DataObject, n: int, more: int) -> None:
    """Word by word, as texts are decoded, with rows that leave or are doubled on the way."""
    alone = data.draw(alike(n))
    for i, state in enumerate(alone):
        x = torch.randn(1, 2 + i, 24, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        MODEL(x, Mask("blocks", (2 + i,)), state)
    streams = Streams([s.fork() for s in alone])
    for step in range(3):
        rows = data.draw(st.lists(st.integers(0, len(alone) - 1), min_size=1, max_size=4))
        streams.select(torch.tensor(rows))
        alone = [alone[i].fork() for i in rows]
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(len(rows), more, 24, generator=generator, dtype=torch.float64)
        want = torch.cat([MODEL(row[None], CAUSAL, state) for row, state in zip(x, alone, strict=True)])
        assert relative_error(MODEL(x, CAUSAL, streams), want) < 1e-10


@torch.no_grad()
def test_a_stream_of_which_nothing_comes_is_not_touched() -> None:
    full = KVState(2, 1)
    for _ in range(5):
        MODEL(torch.randn(1, 2, 24).double(), Mask("blocks", (2,)), full)
    held, blocks = full.keys[0].x.clone(), full.blocks
    MODEL(torch.randn(1, 3, 24).double(), Mask("blocks", (3,), lengths=(0, 3)), Streams([full, KVState(2, 1)]))
    assert full.blocks == blocks
    assert torch.equal(full.keys[0].x, held)


def test_what_does_not_go_side_by_side_is_refused() -> None:
    seen = KVState()
    seen.context[0] = torch.zeros(1, 2, 2, 6), torch.zeros(1, 2, 2, 6)
    for one, other in pairwise((KVState(), KVState(3), KVState(3, 1), KVState(), seen)):
        with pytest.raises(ValueError, match="do not go side by side"):
            Streams([one, other])
    two, x = Streams([KVState(), KVState()]), torch.zeros(1, 4, 24).double()
    for mask in (CAUSAL, Mask("causal", lengths=(4,)), Mask("causal", lengths=(1, 1, 2))):
        with pytest.raises(ValueError, match="for 2 streams"):
            MODEL(x, mask, two)
    with pytest.raises(ValueError, match="window"):
        MODEL(x, Mask("causal", window=2, lengths=(2, 2)), two)
    biased = Transformer(CONFIG, bias=RelativeBias(4, 8, 16, causal=True)).double()
    with pytest.raises(ValueError, match="no biases"):
        biased(x, Mask("causal", lengths=(2, 2)), two)
