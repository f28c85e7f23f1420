"""What is seen is mapped to what is told of it by least squares, kept with a model and never with another's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import Generator
from toy import stream, toy_registry, toy_world

from mmworld.errors import CheckpointError
from mmworld.models import load as models
from mmworld.models.hindsight import evidence
from mmworld.models.load import load
from mmworld.models.segments import Piece
from mmworld.models.session import Session
from mmworld.models.world import SIGHT, World
from mmworld.render import Rendered, scenes
from mmworld.train.sight import RIDGE, fit

TEXTS = ("a red ball rolls", "two dogs bark", "it rains")


def draw(rng: Generator) -> Rendered:
    i = int(rng.integers(3))
    name = ("video", "audio")[int(rng.integers(2))]
    return Rendered(
        (stream(name, float(rng.uniform(1, 3)), seed=int(rng.integers(99))),), TEXTS[i], TEXTS[i + 1 : i + 2]
    )


def piece(world: World, clip: Rendered) -> Piece:
    session = Session(world, modalities=[c.modality for c in clip.chunks])
    for chunk in clip.chunks:
        session.feed(chunk)
    blocks = session.due()
    return Piece(session.zero, blocks[-1].end, tuple(blocks))


def test_it_is_the_ridge_regression_of_meanings_on_mean_tokens() -> None:
    """By numpy's least squares on rows that stand for the penalty, of tokens that a session made."""
    world, n = toy_world(seed=5), 30
    items = [draw(np.random.default_rng((7, i))) for i in range(n)]
    x, y = [], []
    for item in items:
        blocks = piece(world, item).blocks
        with torch.no_grad():
            tokens = torch.cat([world.observe(b.modality, b.tokens, 0.0) for b in blocks])
        x.append([*tokens.mean(0).tolist(), 1.0])
        y.append(np.mean([world.meaning(t).numpy() for t in item.captions], axis=0))
    dim = len(x[0]) - 1
    penalty = np.eye(dim, dim + 1) * RIDGE**0.5
    want = np.linalg.lstsq(np.vstack((x, penalty)), np.vstack((y, np.zeros((dim, dim)))), rcond=None)[0]
    assert np.allclose(fit(world, [draw], n, seed=7), want, atol=1e-4)


def test_it_goes_with_the_model_and_not_with_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = toy_world(seed=5)
    x = torch.randn(9, 32)
    assert world.sense(x) is None
    world.sight = fit(world, [draw], 10)
    world.save(tmp_path)
    with toy_registry():
        again = load(tmp_path)
    want = x.mean(0) @ world.sight[:-1] + world.sight[-1]
    found = again.sense(x)
    assert found is not None
    assert torch.allclose(found, want / want.norm(), atol=1e-2)
    (tmp_path / SIGHT).write_bytes((tmp_path / SIGHT).read_bytes()[:-2])
    with toy_registry(), pytest.raises(CheckpointError, match=SIGHT):
        load(tmp_path)
    world.sight = torch.zeros(9, 32)
    world.save(tmp_path)
    with toy_registry(), pytest.raises(CheckpointError, match="no sight of a model 32 wide"):
        load(tmp_path)
    world.sight = None
    world.save(tmp_path)
    with toy_registry():
        assert models.load(tmp_path).sight is None


def test_by_nanos_an_unseen_scene_is_found_by_what_is_true_of_it() -> None:
    world = load("nano")
    clips = [scenes.clip(np.random.default_rng((7_000_000_009, i))) for i in range(30)]
    seen = np.stack([evidence(world, piece(world, c)).meaning for c in clips])  # type: ignore[misc]
    asked = np.stack([world.meaning(c.caption).numpy() for c in clips])
    best = (asked @ seen.T).argmax(1)
    assert np.mean([clips[b].caption == c.caption for b, c in zip(best, clips, strict=True)]) > 0.9
