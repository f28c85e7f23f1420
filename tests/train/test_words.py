"""The loss of the words: the mean over an item's tokens of what each gives them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmworld.models.world import Item, Packed
from mmworld.train.module import Words

VOCAB, DIM = 11, 6
BOS, EOS = 0, 1


def items(*texts: tuple[int, ...]) -> list[Item]:
    return [Item((), (BOS, *ids, EOS)) for ids in texts]


def packed(media: list[int], texts: list[Item], seed: int) -> Packed:
    """Rows of `media[i]` perceived tokens, then those of the text."""
    sizes = [
        (n, *(1 for _ in item.ids[1:])) if n else (1,) * (len(item.ids) - 1)
        for n, item in zip(media, texts, strict=True)
    ]
    total = sum(map(sum, sizes))
    ends = np.cumsum([sum(s) for s in sizes])
    text = np.concatenate([np.arange(e - len(i.ids) + 1, e) for e, i in zip(ends, texts, strict=True)])
    x = torch.randn(total, DIM, generator=torch.Generator().manual_seed(seed))
    return Packed(x, sizes, torch.from_numpy(text))


def by_hand(words: Words, x: np.ndarray, said: set[int]) -> float:
    """In float64, token by token."""
    scale, shift, w, b = (p.detach().double().numpy() for p in words.parameters())
    total = np.zeros(VOCAB)
    for row in x.astype(np.float64):
        row = (row - row.mean()) / np.sqrt(row.var() + words.norm.eps) * scale + shift
        e = np.exp(w @ row + b)
        total += e / e.sum()
    return float(-np.mean([np.log(total[i] / len(x)) for i in said]))


def test_it_is_the_cross_entropy_of_the_mean_distribution() -> None:
    torch.manual_seed(0)
    words = Words(DIM, VOCAB)
    texts = items((4, 5, 4), (7,), (2, 3, 9))
    row = packed([5, 1, 0], texts, 1)
    got = words(row, texts)
    x = row.x.numpy()
    assert got[0].item() == pytest.approx(by_hand(words, x[:5], {4, 5}), rel=1e-5)
    assert got[1].item() == pytest.approx(by_hand(words, x[9:10], {7}), rel=1e-5)
    assert got[2].item() == 0  # nothing is perceived


def test_one_token_may_answer_for_one_word_and_another_for_another() -> None:
    words = Words(DIM, VOCAB)
    with torch.no_grad():
        words.score.bias.zero_()
        words.score.weight.zero_()[4, 0] = 30.0
        words.score.weight[5, 1] = 30.0
    (item,) = texts = items((4, 5))
    row = packed([2], [item], 0)
    row.x[:2] = torch.eye(DIM)[:2]
    assert words(row, texts).item() == pytest.approx(np.log(2), abs=0.01)
