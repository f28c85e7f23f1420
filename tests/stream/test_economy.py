"""Fewer tokens: what is seen again is left out, what is alike is joined; nothing else changes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import TOYS, cut, stream, toy_world

from mmworld.models.session import Session
from mmworld.stream.economy import Economy, join

WORLD = toy_world(seed=5)


def tokens(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(1, 12), st.lists(st.integers(0, 3), min_size=1, max_size=10), st.floats(0.1, 0.99))
def test_a_token_stays_if_it_differs_from_the_last_that_stayed_in_its_place(
    n: int, scenes: list[int], similar: float
) -> None:
    """By brute force, place by place, over a stream whose blocks recur."""
    economy, seen, last = Economy(similar), None, None
    for i, seed in enumerate(scenes):
        x = tokens(n, seed) + 0.3 * tokens(n, 9 + i)
        kept, seen = economy.thin(x, seen)
        if last is None:
            want, last = list(range(n)), x.clone()
        else:
            cosines = [float(x[k] @ last[k] / x[k].norm() / last[k].norm()) for k in range(n)]
            want = [k for k in range(n) if cosines[k] <= similar] or [cosines.index(min(cosines))]
            last[want] = x[want]
        assert torch.equal(kept, x[want])
        assert torch.equal(seen, last)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 99))
def test_joined_tokens_have_the_mean_of_all(n: int, most: int, seed: int) -> None:
    x = tokens(n, seed)
    kept, seen = Economy(2.0, most).thin(x, None)
    assert len(kept) == min(n, most)
    assert torch.equal(seen, x)
    weights, whole = torch.ones(n, dtype=torch.float64), x
    while len(whole) > most:
        whole, weights = join(whole, weights, len(whole) - most)
    assert torch.allclose((whole * weights[:, None]).sum(0), x.sum(0)), "each stands for as many as it was made of"
    assert weights.sum() == n


def test_the_most_alike_are_joined() -> None:
    x = torch.eye(6, dtype=torch.float64)[:5]
    x[3] = x[2] + 0.01
    kept, _ = join(x, torch.ones(5, dtype=torch.float64), 1)
    assert torch.allclose(kept[2], (x[2] + x[3]) / 2)
    assert torch.equal(kept[[0, 1, 3]], x[[0, 1, 4]])


@torch.no_grad()
@given(st.lists(st.integers(0, 30), max_size=6), st.floats(0.2, 1.5), st.none() | st.integers(1, 2))
def test_in_a_session_the_chunks_do_not_matter_and_what_is_left_out_is_counted(
    sizes: list[int], similar: float, most: int | None
) -> None:
    whole, economy = stream("video", 4.0, seed=1), {"video": Economy(similar, most)}
    sessions = [Session(WORLD, modalities=["video"], economy=economy) for _ in range(2)]
    for session, chunks in zip(sessions, ([whole], cut(whole, sizes)), strict=True):
        for chunk in chunks:
            session.append(chunk)
    (a, b), n = sessions, TOYS["video"].tokens
    assert a.context.blocks == b.context.blocks
    assert all(torch.allclose(x.x, y.x, atol=1e-5) for x, y in zip(a.context.keys, b.context.keys, strict=True))
    heard = a.streams["video"]
    assert (heard.given, heard.kept) == (8 * n, len(a.context))
    if similar > 1 and most is None:
        plain = Session(WORLD, modalities=["video"])
        plain.append(whole)
        assert all(torch.equal(x.x, y.x) for x, y in zip(a.context.keys, plain.context.keys, strict=True))


@torch.no_grad()
def test_it_is_saved_with_the_session(tmp_path: object) -> None:
    whole, economy = stream("video", 4.0, seed=1), {"video": Economy(0.5)}
    first, second = cut(whole, [16])
    whole_session = Session(WORLD, modalities=["video"], economy=economy)
    whole_session.append(first)
    again = Session.restored(WORLD, whole_session.leaves(), economy=economy)
    for session in (whole_session, again):
        session.append(second)
    assert whole_session.context.blocks == again.context.blocks


@pytest.mark.parametrize("bad", [{"similar": 0.0}, {"most": 0}])
def test_what_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="similar must be above 0 and most at least 1"):
        Economy(**bad)  # type: ignore[arg-type]
