"""TimeSformer's ways of looking: who sees whom, and what it has not learned to see."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from masks import relative_error

from mmworld.modalities.video.timesformer import Spaces, Times
from mmworld.models.zoo.parity.case import LIMIT, both, noise
from mmworld.models.zoo.parity.video import CASES
from mmworld.nn.attention import Pass
from mmworld.nn.layer import TransformerConfig


@torch.no_grad()
@given(frames=st.integers(1, 4), patches=st.integers(1, 4), changed=st.integers(0, 16))
def test_patches_look_along_time_or_across_their_frame(frames: int, patches: int, changed: int) -> None:
    c = TransformerConfig(8, 1, 2)
    x = torch.randn(1, 1 + patches * frames, 8)
    other = x.clone()
    changed %= x.shape[1]
    other[:, changed] += 1
    patch, frame = divmod(changed - 1, frames)
    film, places = changed == 0, [divmod(i, frames) for i in range(patches * frames)]
    for look, expected in (
        (Times(c, frames), [False, *(not film and p == patch for p, _ in places)]),
        (Spaces(c, frames), [True, *(film or t == frame for _, t in places)]),
    ):
        moved = (look(x, Pass(), 0) - look(other, Pass(), 0)).abs().amax((0, 2)) > 1e-7
        assert moved.tolist() == expected


@torch.no_grad()
@pytest.mark.parametrize("name", [n for n in CASES if n.startswith("timesformer")])
def test_films_do_not_know_of_each_other(name: str, tmp_path: Path) -> None:
    ours, _ = both(CASES[name], tmp_path)
    films = noise(3, 4, 3, 16, 16)
    whole = ours(films)
    assert relative_error(whole.unflatten(0, (3, -1))[1:].flatten(0, 1), ours(films[1:])) <= LIMIT


@torch.no_grad()
def test_with_space_alone_any_number_of_frames_is_seen(tmp_path: Path) -> None:
    ours, theirs = both(CASES["timesformer, space alone"], tmp_path)
    for frames in (1, 7):
        film = noise(2, frames, 3, 16, 16)
        assert relative_error(ours(film), theirs(film).last_hidden_state) <= LIMIT


def test_films_of_another_shape_are_refused(tmp_path: Path) -> None:
    ours, _ = both(CASES["timesformer"], tmp_path)
    for shape in ((3, 3, 16, 16), (4, 3, 16, 12), (4, 1, 16, 16)):
        with pytest.raises(ValueError, match=r"the model has learned \[4, 3, 16, 16\]"):
            ours(noise(1, *shape))
