"""Policies: times from the origin without drift, a change once and not again until things settle."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.stream.policy import AtEnd, Every, OnChange


@given(st.floats(0, 1e5), st.floats(0.01, 100), st.integers(1, 1000))
def test_every_is_a_grid(origin: float, seconds: float, n: int) -> None:
    judge = Every(seconds).start(origin)
    t = origin
    for i in range(1, min(n, 20)):
        assert judge.due == pytest.approx(origin + i * seconds, abs=1e-9)
        t = judge.due
        assert judge.restart(t, t + 2e-6) == pytest.approx(t, abs=1e-9)
    end = t + n * seconds + 1e-3
    after = judge.restart(end - 1e-3, end)  # a block after a long silence
    assert after <= end <= judge.due + 2e-6
    assert judge.due - after == pytest.approx(seconds, abs=1e-6)


def test_at_end_is_never_due() -> None:
    judge = AtEnd().start(3.0)
    assert judge.due == math.inf
    assert not judge.changed("video", torch.randn(3, 4), 5.0)


def run(policy: OnChange, blocks: list[torch.Tensor], hop: float = 0.5, modality: str = "video") -> list[int]:
    """Indices of the blocks that begin a segment."""
    judge, out = policy.start(0.0), []
    for i, x in enumerate(blocks):
        if judge.changed(modality, x[None], (i + 1) * hop):
            out.append(i)
            judge.restart(i * hop, (i + 1) * hop)
    return out


A, B, C = torch.eye(3)


def test_each_change_once() -> None:
    assert run(OnChange(0.5, shortest=0.0), [A] * 6 + [B] * 6 + [C] * 6) == [6, 12]


def test_noise_under_the_threshold_is_no_change() -> None:
    g = torch.Generator().manual_seed(0)
    assert run(OnChange(0.3, shortest=0.0), [A + 0.1 * torch.randn(3, generator=g) for _ in range(200)]) == []


def test_not_again_until_settled_nor_before_the_shortest_time() -> None:
    flicker = [A, A, A, B, A, B, A, B, A, B]
    changes = run(OnChange(0.5, shortest=0.0), flicker)
    assert changes[0] == 3
    assert 4 not in changes
    assert run(OnChange(0.5, shortest=2.0), [A, B, B, B, B, B, C, C, C, A]) == [6]


def test_modalities_have_their_own_past() -> None:
    judge = OnChange(0.5, shortest=0.0).start(0.0)
    assert not judge.changed("video", A[None], 0.5)
    assert not judge.changed("audio", B[None], 0.5)
    assert not judge.changed("video", A[None], 1.0)
    assert judge.changed("audio", A[None], 1.0)


def test_on_change_speaks_at_the_latest_after_longest() -> None:
    judge = OnChange(longest=7.0).start(1.0)
    assert judge.due == 8.0
    judge.restart(8.0, 8.5)
    assert judge.due == 15.0


def test_on_change_is_not_due_before_the_first_block_has_ended() -> None:
    judge = OnChange(shortest=0.0, longest=0.1).start(0.0)
    assert judge.restart(3.0, 3.5) == 3.0
    assert judge.due == 3.5


@pytest.mark.parametrize(
    "make", [lambda: Every(0.0), lambda: Every(math.nan), lambda: OnChange(0.0), lambda: OnChange(0.3, shortest=99.0)]
)
def test_values_out_of_range(make: object) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        make()  # type: ignore[operator]
