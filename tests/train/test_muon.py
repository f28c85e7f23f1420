"""Muon's steps: the polar factor of the momentum, to within what five rounds reach, at the size asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mmworld.train.muon import SIZE, Muon, orthogonal


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_singular_values_become_about_one_and_singular_vectors_stay(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = min(rows, columns)
    u, _ = np.linalg.qr(rng.standard_normal((rows, n)))
    v, _ = np.linalg.qr(rng.standard_normal((columns, n)))
    x = (u * rng.uniform(0.1, 1.0, n)) @ v.T
    inner = u.T @ orthogonal(torch.tensor(x)).numpy() @ v
    assert inner == pytest.approx(np.diag(np.diag(inner)), abs=1e-6)
    assert np.diag(inner).min() > 0.6
    assert np.diag(inner).max() < 1.25


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (8, 2, 3, 3)])
def test_a_step_is_what_its_equations_say(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    start, *gradients = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    weight = nn.Parameter(start.clone())
    optimizer = Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.5)
    expected, mean = start.clone(), torch.zeros_like(start)
    for gradient in gradients:
        weight.grad = gradient
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient
        ahead = (0.1 * gradient + 0.9 * mean).flatten(1)
        direction = orthogonal(ahead).reshape(shape) * SIZE * max(ahead.shape) ** 0.5
        expected = (1 - 0.1 * 0.5) * expected - 0.1 * direction
    assert torch.allclose(weight.detach(), expected, rtol=1e-9)


def test_weights_of_one_shape_do_not_mix() -> None:
    generator = torch.Generator().manual_seed(1)
    pairs = [torch.randn(2, 5, 7, generator=generator) for _ in range(3)]
    together = [nn.Parameter(p[0].clone()) for p in pairs]
    alone = [nn.Parameter(p[0].clone()) for p in pairs]
    for weights in (together, *([a] for a in alone)):
        optimizer = Muon(weights, lr=0.01)
        for w in weights:
            w.grad = next(p[1] for p in pairs if torch.equal(p[0], w.detach()))
        optimizer.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(together, alone, strict=True))


def _step(rank: int, ranks: int, folder: str) -> None:
    """Three weights, two of one shape, stepped by one of several processes that have the same gradients."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", ranks)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    torch.save(_stepped(), f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def _stepped() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    weights = [nn.Parameter(torch.randn(s, generator=generator)) for s in ((5, 7), (5, 7), (9, 4))]
    optimizer = Muon(weights, lr=0.1)
    for _ in range(2):
        for w in weights:
            w.grad = torch.randn(w.shape, generator=generator)
        optimizer.step()
    return [w.detach() for w in weights]


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_that_share_the_work_take_the_same_steps_as_one(tmp_path: Path, ranks: int) -> None:
    torch.multiprocessing.spawn(_step, (ranks, str(tmp_path)), ranks)
    for rank in range(ranks):
        made = torch.load(tmp_path / str(rank), weights_only=True)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(made, _stepped(), strict=True))


def test_a_weight_without_gradient_stays() -> None:
    weight = nn.Parameter(torch.ones(3, 4))
    Muon([weight], lr=1.0, weight_decay=0.1).step()
    assert torch.equal(weight.detach(), torch.ones(3, 4))
