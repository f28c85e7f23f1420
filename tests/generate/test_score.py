"""Scores of many texts for many items against scoring each pair whole."""

from __future__ import annotations

import torch
from toy import stream, toy_world

from mmworld.generate.score import score_texts

WORLD = toy_world(seed=2)


@torch.no_grad()
def test_every_pair_is_scored_as_a_whole_item() -> None:
    texts = ["a red ball", "two dogs bark at a man", "", "it rains", "a red drum"]
    inputs = [[stream("video", 1.0, seed=1)], [stream("video", 1.0, seed=2)], [stream("audio", 0.7)], []]
    got = score_texts(WORLD, [WORLD.item(chunks, "unseen", prompt="a man") for chunks in inputs], texts)
    whole = [[WORLD.item(chunks, text, prompt="a man") for text in texts] for chunks in inputs]
    want = torch.stack([WORLD.scores(row) for row in whole])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
