"""Samplers against the definition of each, counted over many draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.generate.samplers import Greedy, Sample


def allowed(p: list[float], top_k: int | None, top_p: float | None, min_p: float) -> set[int]:
    order = sorted(range(len(p)), key=lambda i: -p[i])[: top_k or len(p)]
    kept, total, whole = set(), 0.0, sum(p[i] for i in order)
    for i in order:
        if top_p is not None and total >= top_p:
            break
        if p[i] >= min_p * p[order[0]]:
            kept.add(i)
        total += p[i] / whole
    return kept


@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=12, unique=True),
    st.floats(0.1, 3),
    st.none() | st.integers(1, 15),
    st.none() | st.floats(0.01, 1),
    st.floats(0, 1),
    st.integers(0, 2**40),
)
def test_only_what_the_filters_keep(
    x: list[float], temperature: float, top_k: int | None, top_p: float | None, min_p: float, seed: int
) -> None:
    logits = torch.tensor([x])
    p = (logits.double() / temperature).softmax(-1)[0].tolist()
    pick = Sample(temperature, top_k, top_p, min_p, seed).start()
    # 1e-9: a cumulative sum that meets top_p to the last bit may fall on either side
    loose = allowed(p, top_k, None if top_p is None else top_p + 1e-9, min_p - 1e-9)
    assert {int(pick(logits)) for _ in range(8)} <= loose


@given(st.integers(0, 999), st.integers(1, 12), st.floats(0.05, 1), st.floats(0, 1), st.floats(0.2, 3))
def test_probabilities_are_those_of_transformers(
    seed: int, top_k: int, top_p: float, min_p: float, temperature: float
) -> None:
    warpers = pytest.importorskip("transformers").generation.logits_process
    logits = torch.randn(3, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    scores = logits / temperature
    for warper in warpers.TopKLogitsWarper(top_k), warpers.TopPLogitsWarper(top_p), warpers.MinPLogitsWarper(min_p):
        scores = warper(None, scores)
    p, ids = Sample(temperature, top_k, top_p, min_p).probabilities(logits)
    ours = torch.zeros_like(p).scatter(-1, ids, p / p.sum(-1, keepdim=True))
    torch.testing.assert_close(ours, scores.softmax(-1))


def test_frequencies_are_the_softmax() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0]])
    pick = Sample(temperature=1.5, seed=1).start()
    n = 4000
    counts = torch.bincount(torch.tensor([int(pick(logits)) for _ in range(n)]), minlength=4)
    want = (logits[0] / 1.5).softmax(-1) * n
    assert (counts - want).abs().max() < 4 * (n / 4) ** 0.5  # four standard deviations


def test_rows_do_not_see_each_other_and_seeds_count() -> None:
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    together = Sample(seed=3).start()
    alone = [Sample(seed=3).start() for _ in range(5)]
    draws = [together(logits) for _ in range(6)]
    for got in draws:
        assert got.tolist() == [int(p(logits[i : i + 1])) for i, p in enumerate(alone)]
    other = Sample(seed=4).start()
    assert any(not torch.equal(got, other(logits)) for got in draws)


def test_greedy_takes_the_largest() -> None:
    assert Greedy().start()(torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 0.0]])).tolist() == [1, 0]


@pytest.mark.parametrize(
    "bad", [{"temperature": 0.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": -0.1}, {"min_p": 1.5}]
)
def test_values_out_of_range(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Sample(**bad)
