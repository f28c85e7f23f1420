"""What xformers is told, materialised on the CPU, is what the mask says; its kernels run on CUDA only."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from masks import Case, cases

from mmworld.attention import CAUSAL, FULL, Mask, xformers
from mmworld.attention.xformers import dense_bias, lower

needs_xformers = pytest.mark.skipif(find_spec("xformers") is None, reason="the extra 'gpu' is not installed")


def on_cuda(*shape: int, dtype: torch.dtype = torch.float16, requires_grad: bool = False) -> SimpleNamespace:
    """As much of a CUDA tensor as `why_not` asks for."""
    device, n = SimpleNamespace(type="cuda"), torch.Size(shape).numel()
    return SimpleNamespace(device=device, dtype=dtype, shape=shape, numel=lambda: n, requires_grad=requires_grad)


def reasons(case: Case, *, dim: int = 64, dtype: torch.dtype = torch.float16, requires_grad: bool = False) -> str:
    q = on_cuda(1, case.n_queries, 2, dim, dtype=dtype, requires_grad=requires_grad)
    k = on_cuda(1, case.n_keys, 2, dim, dtype=dtype)
    return "; ".join(xformers.why_not(q, k, k, case.mask, None))


@needs_xformers
@given(cases(longest=12), st.integers(1, 2))
def test_what_xformers_is_told_is_what_the_mask_says(case: Case, batch: int) -> None:
    mask, n_queries, n_keys = case
    told = lower(mask, n_queries, n_keys, batch)
    seen = mask.dense(n_queries, n_keys)
    if told is None:
        assert seen.all()
    elif isinstance(told, torch.Tensor):
        assert torch.equal(told, seen)
    elif "BlockDiagonal" in type(told).__name__:
        bias = told.materialize((batch * n_queries, batch * n_keys))
        assert torch.equal(bias == 0, torch.block_diag(*[seen] * batch).bool())
    else:
        assert torch.equal(told.materialize((n_queries, n_keys)) == 0, seen)


@needs_xformers
@pytest.mark.parametrize(
    ("mask", "n_queries", "n_keys", "name"),
    [
        (FULL, 5, 7, "NoneType"),
        (CAUSAL, 7, 7, "LowerTriangularMask"),
        (CAUSAL, 5, 7, "LowerTriangularFromBottomRightMask"),
        (Mask("blocks", (4, 3)), 3, 7, "NoneType"),
        (Mask("blocks", (4, 3)), 7, 7, "Tensor"),
        (Mask("causal", window=3), 7, 7, "BlockDiagonalCausalLocalAttentionMask"),
        (Mask("causal", window=3), 5, 7, "BlockDiagonalCausalLocalAttentionFromBottomRightMask"),
        (Mask("causal", window=3, sinks=1), 7, 7, "Tensor"),
        (Mask("full", lengths=(3, 0, 4)), 7, 7, "BlockDiagonalMask"),
        (Mask("causal", lengths=(3, 4)), 7, 7, "BlockDiagonalCausalMask"),
        (Mask("causal", lengths=(1, 1), key_lengths=(9, 4)), 2, 13, "BlockDiagonalMask"),
        (Mask("causal", lengths=(2, 1), key_lengths=(9, 4)), 3, 13, "BlockDiagonalCausalFromBottomRightMask"),
        (Mask("blocks", (9, 2, 4), lengths=(2, 4), key_lengths=(11, 4)), 6, 15, "BlockDiagonalMask"),
    ],
)
def test_the_plainest_class_is_chosen(mask: Mask, n_queries: int, n_keys: int, name: str) -> None:
    assert type(lower(mask, n_queries, n_keys)).__name__ == name


@pytest.mark.parametrize("n_keys", [8, 13])
@pytest.mark.parametrize("shape", [None, (2, 3, 5, 1), (3, 1, 13), (2, 3, 5, 13)])
def test_a_dense_bias_is_aligned_in_memory(n_keys: int, shape: tuple[int, ...] | None) -> None:
    bias = torch.randn([n if n != 13 else n_keys for n in shape]).requires_grad_() if shape else None
    seen = torch.rand(5, n_keys) < 0.7
    logits = dense_bias(seen, bias, (2, 3, 5, n_keys), torch.float16)
    expected = torch.zeros(2, 3, 5, n_keys) + (0 if bias is None else bias)
    assert torch.equal(logits, expected.half().masked_fill(~seen, -torch.inf))
    assert logits.stride(-1) == 1
    assert all(stride % 8 == 0 for stride in logits.stride()[:-1])
    if bias is not None:
        assert logits.stride(1) > 0  # gradients of a broadcast bias are not computed by the kernels


def test_every_reason_names_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xformers, "_ops", lambda: object())
    fine = Case(CAUSAL, 5, 5)
    assert reasons(fine) == ""
    assert "float64" in reasons(fine, dtype=torch.float64)
    assert "multiples of 8, got 20" in reasons(fine, dim=20)
    assert "without any key" in reasons(Case(Mask("full", lengths=(3, 2), key_lengths=(4, 0)), 5, 4))
    assert "dense bias" in reasons(Case(Mask("blocks", (2, 3, 2, 3), lengths=(5, 5)), 10, 10))
    held = Case(Mask("causal", window=2), 3, 5)
    assert reasons(held, dtype=torch.float32) == reasons(held, requires_grad=True) == ""
    assert "float32 gradients" in reasons(held, dtype=torch.float32, requires_grad=True)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xformers", None)
    monkeypatch.setitem(sys.modules, "xformers.ops", None)
    xformers._ops.cache_clear()
    assert "mmworld[gpu]" in reasons(Case(FULL, 3, 3))
    xformers._ops.cache_clear()


@needs_xformers
def test_the_import_is_quiet() -> None:
    code = "from mmworld.attention import xformers; assert xformers._ops() is not None"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
