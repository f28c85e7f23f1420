"""Suites on the real sets' held-out parts: radar recordings and photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mmworld.evaluate import baselines, metrics
from mmworld.evaluate.rendered import Say
from mmworld.evaluate.score import Score, names, share
from mmworld.train import real
from mmworld.train.sources import RADAR_SECONDS, sweeps, window
from mmworld.train.store import Store
from mmworld.types import Chunk

Rank = Callable[[Sequence[Sequence[Chunk]], Sequence[str]], NDArray[np.float64]]
"""How well each text fits each item's streams [items, texts]."""


def activities(say: Say, store: Store) -> list[Score]:
    """RadHAR: each recording in windows of 2 s, side by side; the caption names what the person does."""
    clips, true = [], []
    for i, (sentence,) in enumerate(store.captions):
        for k in range(int(store[i][-1, 0] / RADAR_SECONDS)):
            clips.append((sweeps(window(store[i], k * RADAR_SECONDS, RADAR_SECONDS)),))
            true.append(sentence)
    right = [names(said, t, real.MOTIONS.values()) for said, t in zip(say(clips), true, strict=True)]
    return [share("radhar", "activity named", right, 0.94, {"chance": 1 / len(real.MOTIONS)})]


def photographs(say: Say, rank: Rank, dev: Store, train: Store) -> list[Score]:
    """Flickr8k: captions against five of people's, and the right caption among those of all photographs."""
    n = len(dev)
    chance = 5 / n
    recall = metrics.recall_at(rank(_clips(dev), [c[0] for c in dev.captions]), 5)
    error = (recall * (1 - recall) / n) ** 0.5
    name = f"right caption among the best 5 of {n}"
    found = Score("flickr8k", name, recall, n, error, 3 * chance, {"chance": chance})
    return [*described(say, dev, train), found]


def described(say: Say, dev: Store, train: Store, which: str = "") -> list[Score]:
    """Captions of photographs against five of people's; `which` is said of the photographs."""
    nearest = baselines.nearest([dev[i][0] for i in range(len(dev))], [train[i][0] for i in range(len(train))])
    others = {
        "constant": [baselines.CONSTANT] * len(dev),
        "nearest in colour": [train.captions[int(i)][0] for i in nearest],
    }
    said, scores = say(_clips(dev)), []
    for name, metric, bar in (("CIDEr-D", metrics.cider_d, 0.20), ("BLEU-4", _bleu4, 0.09)):
        beside = {k: metric(v, dev.captions) for k, v in others.items()}
        scores.append(Score("flickr8k", name + which, metric(said, dev.captions), len(dev), None, bar, beside))
    return scores


def _clips(photographs: Store) -> list[tuple[Chunk]]:
    pictures = (photographs[i][0] for i in range(len(photographs)))
    return [(Chunk(torch.from_numpy(p[None].copy()), 0.0, 0.0, "image", last=True),) for p in pictures]


def _bleu4(said: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    return metrics.bleu(said, references)[3]
