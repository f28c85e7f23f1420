"""When each word was said: where the decoder's attention to the sound moves on (OpenAI's Whisper, timing.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmworld.models.zoo.whisper.marks import STEP
from mmworld.text.languages import SPACELESS
from mmworld.types import Word

Decode = Callable[[Sequence[int]], str]
MEDIAN = 7
"""Places over which attention is smoothed."""
OPENING, CLOSING = "\"'“¡¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Signs that belong to the word after them, and to the one before."""
SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
CUT = "�"
"""What decodes to it is a part of a character."""


def moments(weights: Tensor) -> list[float]:
    """Seconds at which the attention of each id begins, from the weights [H, T, N] of the heads that follow the sound:
    T ids that were read, N places of `STEP` seconds.
    """
    deviation, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
    even = ((weights - mean) / deviation).nan_to_num(0.0)
    rows, columns = warp(-_median(even).mean(0).double().cpu().numpy())
    begins = np.diff(rows, prepend=-1).astype(bool)
    return (columns[begins] * STEP).tolist()


def warp(cost: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Dynamic time warping: the path of rows and columns of least cost [T, N] from the first cell to the last, each
    step one row on, one column on, or both. Cells of one diagonal do not need each other, and are summed at once.
    """
    n_rows, n_columns = cost.shape
    total = np.full((n_rows + 1, n_columns + 1), np.inf, np.float32)
    total[0, 0] = 0
    step = np.full(total.shape, 2, np.int8)
    step[1:, 0] = 1
    for d in range(2, n_rows + n_columns + 1):
        i = np.arange(max(1, d - n_columns), min(n_rows, d - 1) + 1)
        j = d - i
        both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        took = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        total[i, j] = cost[i - 1, j - 1] + np.choose(took, (both, down, right))
        step[i, j] = took
    return _back(step)


def _back(step: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    i, j = step.shape[0] - 1, step.shape[1] - 1
    path = []
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        took = int(step[i, j])
        i, j = i - (took != 2), j - (took != 1)
    rows, columns = np.array(path[::-1]).T
    return rows, columns


def _median(x: Tensor) -> Tensor:
    """Of each value [H, T, N] and its neighbours along N; a row that is too short stays as it is."""
    side = MEDIAN // 2
    if x.shape[-1] <= side:
        return x
    return F.pad(x, (side, side), mode="reflect").unfold(-1, MEDIAN, 1).median(-1).values


def words(decode: Decode, ids: Sequence[int], spans: Sequence[tuple[float, float]], language: str | None) -> list[Word]:
    """The words of ids and of when each was said.

    Args:
        decode: ids to their text.
        language: a code; some are written without spaces, and then characters are words.
    """
    parts = _characters(decode, ids)
    if language not in SPACELESS:
        parts = _spaced(parts)
    parts = _closed(_opened(parts))
    return [Word(text, spans[at[0]][0], spans[at[-1]][1]) for text, at in parts]


Part = tuple[str, list[int]]
"""A text and the places of its ids."""


def _characters(decode: Decode, ids: Sequence[int]) -> list[Part]:
    """The shortest runs of ids that are whole characters."""
    whole = decode(ids)
    parts: list[Part] = []
    held: list[int] = []
    at = 0
    for i in range(len(ids)):
        held.append(i)
        text = decode([ids[k] for k in held])
        cut = text.find(CUT)
        if cut < 0 or at + cut >= len(whole) or whole[at + cut] == CUT:
            parts.append((text, held))
            held, at = [], at + len(text)
    return parts


def _spaced(parts: Sequence[Part]) -> list[Part]:
    """Joined up to the next space or sign."""
    out: list[Part] = []
    for text, at in parts:
        if not out or text.startswith(" ") or text.strip() in SIGNS:
            out.append((text, list(at)))
        else:
            out[-1] = (out[-1][0] + text, out[-1][1] + at)
    return out


def _opened(parts: Sequence[Part]) -> list[Part]:
    """Signs that open something are of the word after them."""
    out: list[Part] = []
    for text, at in reversed(parts):
        if out and text.startswith(" ") and text.strip() in OPENING:
            out[-1] = (text + out[-1][0], at + out[-1][1])
        else:
            out.append((text, at))
    return out[::-1]


def _closed(parts: Sequence[Part]) -> list[Part]:
    """Signs that close something are of the word before them."""
    out: list[Part] = []
    for text, at in parts:
        if out and not out[-1][0].endswith(" ") and text in CLOSING:
            out[-1] = (out[-1][0] + text, out[-1][1] + at)
        else:
            out.append((text, at))
    return out
