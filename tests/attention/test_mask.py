"""Masks mean what their definition says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from masks import Case, brute_force, cases

from mmworld.attention import CAUSAL, FULL, Mask


@given(cases())
def test_dense_is_the_definition(case: Case) -> None:
    assert torch.equal(case.mask.dense(case.n_queries, case.n_keys), brute_force(case))


@given(cases())
def test_the_simplest_rule_shows_the_same(case: Case) -> None:
    for n_queries, n_keys, rule in case.mask.segments(case.n_queries, case.n_keys):
        simple = rule.simplest(n_queries, n_keys)
        assert torch.equal(simple.dense(n_queries, n_keys), rule.dense(n_queries, n_keys))


def test_the_simplest_rule_is_simple() -> None:
    assert Mask("blocks", (4, 4, 4)).simplest(4, 12) == FULL
    assert Mask("blocks", (4, 4, 4), window=2).simplest(4, 12) != FULL
    assert Mask("blocks", (4, 4, 4), window=2, sinks=1).simplest(4, 12) == FULL
    assert Mask("blocks", (1, 1, 1)).simplest(3, 3) == CAUSAL
    assert Mask("causal", window=9).simplest(3, 3) == CAUSAL
    assert CAUSAL.simplest(1, 7) == FULL


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Mask("blocks"),
        lambda: Mask("causal", (1, 2)),
        lambda: Mask("full", window=3),
        lambda: Mask("causal", window=0),
        lambda: Mask("causal", key_lengths=(3,)),
        lambda: Mask("blocks", (2, 2), lengths=(3, 1)).segments(4, 4),
        lambda: Mask("blocks", (2, 2)).segments(5, 5),
        lambda: Mask("full", lengths=(2, 2)).segments(5, 5),
        lambda: CAUSAL.segments(5, 4),
        lambda: Mask("causal", lengths=(3, 1), key_lengths=(2, 2)).segments(4, 4),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        wrong()
