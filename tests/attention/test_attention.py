"""Every backend that runs here computes what the float64 reference computes, gradients too."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from masks import Case, cases, relative_error

from mmworld.attention import CAUSAL, FULL, Mask, attention, why_not
from mmworld.attention.dispatch import _announce
from mmworld.errors import AttentionError

BACKENDS = [
    pytest.param("sdpa", "cpu", id="sdpa"),
    pytest.param("sdpa", "cuda", id="sdpa-cuda", marks=pytest.mark.cuda),
    pytest.param("xformers", "cuda", id="xformers-cuda", marks=pytest.mark.cuda),
]


def tensors(case: Case, batch: int, heads: int, groups: int, dim: int, v_dim: int, device: str) -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [
        (batch, case.n_queries, heads * groups, dim),
        (batch, case.n_keys, heads, dim),
        (batch, case.n_keys, heads, v_dim),
    ]
    return [torch.randn(shape, device=device, requires_grad=True) for shape in shapes]


def draw_bias(data: st.DataObject, shape: tuple[int, ...], device: str) -> torch.Tensor | None:
    kind = data.draw(st.sampled_from(["none", "whole", "broadcast", "hiding"]))
    if kind == "none":
        return None
    if kind == "broadcast":
        shape = (shape[1], 1, shape[3])
    bias = torch.randn(shape, device=device)
    if kind == "hiding":
        bias = bias.masked_fill(torch.rand(shape, device=device) < 0.5, -torch.inf)
        return bias
    return bias.requires_grad_()


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
@given(data=st.data())
def test_a_backend_equals_the_reference(backend: str, device: str, data: st.DataObject) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    case = data.draw(cases(longest=12))
    batch, heads, groups = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 3)))
    dim = data.draw(st.sampled_from([16, 24, 32, 48, 64, 80, 128]))
    v_dim = data.draw(st.sampled_from([dim, 16]))
    q, k, v = leaves = tensors(case, batch, heads, groups, dim, v_dim, device)
    bias = draw_bias(data, (batch, heads * groups, case.n_queries, case.n_keys), device)
    scale = data.draw(st.none() | st.just(0.3))
    if why_not(backend, q, k, v, case.mask, bias):
        return
    if bias is not None and bias.requires_grad:
        leaves.append(bias)

    out = attention(q, k, v, case.mask, bias=bias, scale=scale, backend=backend)
    expected = attention(*(x.double() for x in (q, k, v)), case.mask, bias=bias, scale=scale, backend="reference")
    assert out.shape == (batch, case.n_queries, heads * groups, v_dim)
    assert relative_error(out, expected) < 1e-5

    along = torch.randn_like(out)
    grads = torch.autograd.grad(out, leaves, along, allow_unused=True)
    wanted = torch.autograd.grad(expected, leaves, along.double(), allow_unused=True)
    largest = max(float(g.abs().max()) for g in wanted if g is not None and g.numel()) if out.numel() else 0.0
    for grad, want in zip(grads, wanted, strict=True):
        grad, want = (torch.zeros(1) if g is None else g for g in (grad, want))
        assert grad.isfinite().all()
        if want.numel():
            assert float((grad.double() - want.double()).abs().max()) <= 1e-5 * max(largest, 1e-6)


@pytest.mark.parametrize("window", [1, 3, 40])
@pytest.mark.parametrize("held", [0, 5])
def test_a_long_window_is_cut_into_tiles(window: int, held: int) -> None:
    torch.manual_seed(0)
    n = 700
    masks = [Mask("causal", None, window, 0, (n, 9), (n + held, 9))]
    masks.append(Mask("blocks", (7,) * 100 + (held,) * (held > 0) + (4, 5), window, 0, (n, 9), (n + held, 9)))
    q, k, v = torch.randn(1, n + 9, 2, 16), torch.randn(1, n + held + 9, 2, 16), torch.randn(1, n + held + 9, 2, 16)
    for mask in masks:
        expected = attention(q.double(), k.double(), v.double(), mask, backend="reference")
        assert relative_error(attention(q, k, v, mask), expected) < 1e-5


def test_a_window_needs_memory_for_its_own_pairs_only() -> None:
    from mmworld.attention.sdpa import _plan

    n = 20_000
    (segment,) = _plan(Mask("causal", window=100), n, n, torch.device("cpu"), False)
    assert sum(p.seen.numel() for p in segment.pieces if p.seen is not None) < n * 300


def test_a_query_that_sees_nothing_gets_zeros() -> None:
    q, k = torch.randn(1, 3, 2, 16), torch.randn(1, 0, 2, 16)
    assert attention(q, k, k, Mask("full", lengths=(3,), key_lengths=(0,))).eq(0).all()
    empty = torch.randn(1, 0, 2, 16)
    assert attention(empty, empty, empty, Mask("full", lengths=())).shape == (1, 0, 2, 16)


def test_a_refusal_lists_every_reason() -> None:
    q, k = torch.randn(1, 4, 3, 16), torch.randn(1, 4, 2, 16)
    with pytest.raises(AttentionError, match="sdpa: 3 query heads are no multiple of 2 key heads"):
        attention(q, k, k)
    with pytest.raises(AttentionError, match=r"xformers: .*CPU") as refusal:
        attention(k, k, k, backend="xformers")
    assert "sdpa" not in str(refusal.value)
    with pytest.raises(AttentionError, match="no such backend, known: xformers, sdpa, reference"):
        attention(k, k, k, backend="flash")


def test_the_choice_is_logged_once_with_what_was_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    _announce.cache_clear()
    q = torch.randn(1, 4, 2, 16)
    with caplog.at_level(logging.INFO, logger="mmworld"):
        for mask in (FULL, CAUSAL, FULL):
            attention(q, q, q, mask)
    (record,) = caplog.records
    assert "by sdpa (xformers: " in record.getMessage()
