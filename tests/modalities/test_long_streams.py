"""An encoder hears a stream of any length in any chunks as it would hear it at once, and holds no more for it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from long import Long, bank_of, block_times, cuts, long_stream, without_state
from masks import relative_error
from streams import NAMES, tiny
from torch import Tensor
from toy import TOYS, ToyConfig
from toy import stream as toy_stream

import mmworld
from mmworld.models import snapshot
from mmworld.models.world import make_adapter
from mmworld.types import Tokens

FEW, MANY = 500, 10_000
STARTS = st.sampled_from([0.0, 0.1, 1e5, 1e7])
"""Seconds; the last is four months."""
STEPS = pytest.mark.parametrize("steps", [FEW, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
"""Chunks."""


def few(n: int) -> settings:
    return settings(max_examples=n, phases=[Phase.generate])  # to shrink such a stream takes hours


def rounding(m: Any, s: Long, exact: Tensor) -> float:
    """How far one pass over stretches, without any state, is from the truth in float32: the worst of three lengths."""
    return max(relative_error(without_state(m, s, n, torch.float32)[0], exact) for n in (32, 128, 512))


@torch.no_grad()
def check(m: Any, bank: Tensor, rows: list[int], start: float, *, trained: bool = False) -> None:
    """`trained` weights may be so steep that float32 itself is not good to 1e-5."""
    s = long_stream(m, bank, sum(rows), start=start)
    state, parts, held = m.init_state(), [], []
    for chunk in s.chunks(rows):
        parts.append(m.encode(chunk, state))
        held.append(snapshot.nbytes(state))
    got = Tokens.join(parts)
    x, blocks = without_state(m, s)
    assert got.blocks == blocks
    assert relative_error(got.x, x) <= max(1e-5, 2 * rounding(m, s, x) if trained else 0.0)
    first = torch.tensor([0, *got.blocks]).cumsum(0)[:-1]
    for times, want in zip((got.start, got.end), block_times(m, s, rows), strict=True):
        assert torch.allclose(times[first][:-1], want[:-1], rtol=0, atol=1e-6)  # a toy fills its last block
    tenth = len(held) // 10
    assert max(held[tenth:]) <= 1.5 * max(held[:tenth])  # what waits for its block differs from chunk to chunk


@STEPS
@pytest.mark.parametrize("name", NAMES)
@few(3)
@given(data=st.data(), start=STARTS)
def test_any_chunks_are_one_pass(name: str, steps: int, data: st.DataObject, start: float) -> None:
    m = tiny(name)
    check(m, bank_of(m), data.draw(cuts(m)).rows(steps), start)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
@few(1)
@given(data=st.data())
def test_ten_thousand_chunks_of_the_shipped_encoders_are_one_pass(name: str, data: st.DataObject) -> None:
    adapters = nano().adapters
    m = adapters[name] if name in adapters else make_adapter(name, {}).eval()
    check(m, bank_of(m), data.draw(cuts(m)).rows(MANY), 1e5, trained=True)


@lru_cache
def nano() -> Any:
    return mmworld.load("nano").eval()


@STEPS
@pytest.mark.parametrize("name", sorted(TOYS))
@few(3)
@given(data=st.data(), start=STARTS)
def test_the_toys_too(name: str, steps: int, data: st.DataObject, start: float) -> None:
    """Whose tokens depend on all that came before."""
    torch.manual_seed(0)
    m = TOYS[name](ToyConfig())
    check(m, toy_stream(name, 100.0).data, data.draw(cuts(m)).rows(steps), start)
