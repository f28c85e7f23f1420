"""What simple methods reach on the same items: the figures to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmworld.errors import UsageError
from mmworld.modalities.audio.features import log_mel

CONSTANT = "a man in a blue shirt is standing in the grass"
"""Said of every photograph."""
GRID = 8
Array = NDArray[np.floating[Any]]


def mel_statistics(wave: NDArray[np.float32], *, more: bool = False) -> Array:
    """Mean and deviation of each log-mel band [2 * 64]; with `more` also greatest, least, deviation of steps [5 * 64].

    Args:
        wave: float32 [S] at 16 kHz, at least two frames (35 ms).
    """
    mel = log_mel(torch.from_numpy(np.array(wave))[None])[0].numpy()
    statistics = [mel.mean(0), mel.std(0)]
    if more:
        statistics += [mel.max(0), mel.min(0), np.diff(mel, axis=0).std(0)]
    return np.concatenate(statistics)


def logistic(x: Array, y: Sequence[str], unseen: Array) -> list[str]:
    """Classes of the rows `unseen`, by logistic regression on standardised rows x [N, D] of classes y.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise UsageError("the baselines need scikit-learn", hint="pip install 'mmworld[train]'") from None
    return list(make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000)).fit(x, y).predict(unseen))


def nearest(pictures: Sequence[NDArray[np.uint8]], seen: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """For each picture uint8 [3, H, W] the index of the one in `seen` whose 8 x 8 mean colours are closest."""
    a, b = (np.stack([_colours(p) for p in ps]) for ps in (pictures, seen))
    squares = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
    return squares.argmin(1)


def _colours(picture: NDArray[np.uint8]) -> Array:
    _, h, w = picture.shape
    cells = picture.reshape(3, GRID, h // GRID, GRID, w // GRID).astype(np.float32)
    return cells.mean((2, 4)).ravel() / 255
