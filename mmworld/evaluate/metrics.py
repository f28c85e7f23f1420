"""Caption metrics as the field's reference code (coco-caption) counts them, and retrieval."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Words = list[str]
Ngrams = Counter[tuple[str, ...]]
_TOKEN = re.compile(r"n't\b|'(?:s|m|re|ve|ll|d)\b|\w+?(?=n't\b)|\w+(?:[-.]\w+)*")
BETA = 1.2
"""Weight of recall in ROUGE-L."""
SIGMA = 6.0
"""Of the length penalty in CIDEr-D."""


def tokenize(text: str) -> Words:
    """Lower-case words in the manner of the Penn Treebank ("don't" is "do" and "n't"), punctuation left out."""
    return _TOKEN.findall(text.lower())


def ngrams(words: Words, n: int) -> Ngrams:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], n: int = 4) -> list[float]:
    """Corpus BLEU-1 to BLEU-n (Papineni et al. 2002), against the closest reference length.

    Args:
        hypotheses: one caption an item.
        references: one or more captions an item.
    """
    tiny, small = 1e-15, 1e-9  # as in coco-caption, so that figures agree to the last digit
    matched, guessed = np.zeros(n), np.zeros(n)
    length = reference_length = 0
    for hypothesis, others in _tokenized(hypotheses, references):
        length += len(hypothesis)
        reference_length += min((abs(len(o) - len(hypothesis)), len(o)) for o in others)[1]
        for k in range(n):
            grams = ngrams(hypothesis, k + 1)
            most: Ngrams = Counter()
            for other in others:
                most |= ngrams(other, k + 1)
            guessed[k] += grams.total()
            matched[k] += (grams & most).total()
    ratio = (length + tiny) / (reference_length + small)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    precision = np.cumprod((matched + tiny) / (guessed + small))
    return [float(p ** (1 / (k + 1)) * brevity) for k, p in enumerate(precision)]


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean ROUGE-L F-score (Lin 2004): longest common subsequence, best precision and best recall of the references."""
    return float(np.mean([_rouge_l(h, others) for h, others in _tokenized(hypotheses, references)]))


def _rouge_l(hypothesis: Words, others: Sequence[Words]) -> float:
    common = [_longest_common(hypothesis, o) for o in others]
    precision = max(c / max(len(hypothesis), 1) for c in common)
    recall = max(c / max(len(o), 1) for c, o in zip(common, others, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _longest_common(a: Words, b: Words) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        before = row
        row = [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else max(before[j + 1], row[j]))
    return row[-1]


def cider_d(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean CIDEr-D (Vedantam et al. 2015, section 6) times 10; document frequencies are those of `references`."""
    corpus = list(_tokenized(hypotheses, references))
    frequency: Ngrams = Counter()
    for _, others in corpus:
        frequency.update({g for o in others for k in range(4) for g in ngrams(o, k + 1)})
    scale = math.log(len(corpus))

    def weigh(words: Words) -> list[dict[tuple[str, ...], float]]:
        grams = (ngrams(words, k + 1) for k in range(4))
        return [{g: c * (scale - math.log(max(frequency[g], 1))) for g, c in gs.items()} for gs in grams]

    scores = []
    for hypothesis, others in corpus:
        mine = weigh(hypothesis)
        each = [_cider(mine, weigh(o), len(hypothesis) - len(o)) for o in others]
        scores.append(10 * float(np.mean(each)))
    return float(np.mean(scores))


def _cider(
    mine: Sequence[dict[tuple[str, ...], float]], theirs: Sequence[dict[tuple[str, ...], float]], longer: int
) -> float:
    total = 0.0
    for a, b in zip(mine, theirs, strict=True):
        norm = math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
        if norm:
            total += sum(min(v, b[g]) * b[g] for g, v in a.items() if g in b) / norm
    return total / 4 * math.exp(-(longer**2) / (2 * SIGMA**2))


def recall_at(scores: NDArray[np.float64], k: int) -> float:
    """Share of rows of [N, N] whose diagonal is among the k largest; a tie counts against it."""
    right = np.diag(scores)[:, None]
    return float(np.mean((scores >= right).sum(1) <= k))


def _tokenized(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[tuple[Words, list[Words]]]:
    return [(tokenize(h), [tokenize(r) for r in rs]) for h, rs in zip(hypotheses, references, strict=True)]
