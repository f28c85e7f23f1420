"""Metrics against figures that their authors published, and their laws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmworld.evaluate import metrics

words = st.lists(st.sampled_from(["a", "red", "dog", "runs", "on", "grass"]), min_size=1, max_size=8).map(" ".join)


@pytest.fixture
def published(shared_data: Path) -> dict[str, dict[str, float]]:
    return json.loads((shared_data / "eval" / "expected.json").read_text())["third_party"]


def measured(hypotheses: list[str], references: list[list[str]]) -> dict[str, float]:
    bleu = {f"Bleu_{n + 1}": b for n, b in enumerate(metrics.bleu(hypotheses, references))}
    return bleu | {
        "ROUGE_L": metrics.rouge_l(hypotheses, references),
        "CIDEr": metrics.cider_d(hypotheses, references),
    }


def test_the_examples_of_nlgeval(shared_data: Path, published: dict[str, dict[str, float]]) -> None:
    folder = shared_data / "eval" / "nlgeval" / "examples"
    hypotheses, *references = ((folder / f"{n}.txt").read_text().splitlines() for n in ("hyp", "ref1", "ref2"))
    got = measured(hypotheses, [list(r) for r in zip(*references, strict=True)])
    expected = published["nlgeval/examples (hyp.txt vs ref1.txt,ref2.txt)"]
    assert {k: round(v, 5) for k, v in got.items()} == {k: round(expected[k], 5) for k in got}


def test_single_sentences_of_nlgeval(published: dict[str, dict[str, float]]) -> None:
    rows = [
        ("nlgeval individual", "this is a good test", ["this is a test", "this is also a test"]),
        ("nlgeval non-ascii", "Le test est en français.", ["Test en français.", "Le test en français."]),
    ]
    for name, hypothesis, references in rows:
        expected = next(v for k, v in published.items() if k.startswith(name))
        got = measured([hypothesis], [references])
        assert got == pytest.approx({k: expected[k] for k in got}, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("which", ["good", "bad"])
def test_the_examples_of_clipscore(shared_data: Path, published: dict[str, dict[str, float]], which: str) -> None:
    folder = shared_data / "eval" / "clipscore" / "example"
    captions = json.loads((folder / f"{which}_captions.json").read_text())
    references = json.loads((folder / "refs.json").read_text())
    got = measured([captions[k] for k in captions], [references[k] for k in captions])
    expected = published[f"clipscore/example {which}_captions vs refs"]
    names = {f"Bleu_{n}": f"BLEU-{n}" for n in range(1, 5)} | {"ROUGE_L": "ROUGE", "CIDEr": "CIDER"}
    assert {k: round(v, 4) for k, v in got.items()} == {k: expected[names[k]] for k in got}


def test_words_of_the_treebank() -> None:
    assert metrics.tokenize("A man's well-worn coat, he doesn't mind.") == (
        ["a", "man", "'s", "well-worn", "coat", "he", "does", "n't", "mind"]
    )


@given(st.lists(words, min_size=2, max_size=5))
def test_a_perfect_caption_scores_one(captions: list[str]) -> None:
    references = [[c] for c in captions]
    long = [i for i, c in enumerate(captions) if len(c.split()) >= 4]
    assert metrics.rouge_l(captions, references) == pytest.approx(1)
    if long:
        assert metrics.bleu([captions[i] for i in long], [references[i] for i in long]) == pytest.approx([1] * 4)


@given(st.lists(st.tuples(words, words), min_size=2, max_size=5))
def test_scores_are_bounded_and_blind_to_the_order_of_items(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = [h for h, _ in pairs], [[r] for _, r in pairs]
    got = measured(hypotheses, references)
    assert all(-1e-9 <= v <= (10 if k == "CIDEr" else 1) + 1e-9 for k, v in got.items())
    assert measured(hypotheses[::-1], references[::-1]) == pytest.approx(got)


def test_recall_counts_rows_whose_own_column_is_among_the_best() -> None:
    scores = np.array([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]])
    assert [metrics.recall_at(scores, k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert metrics.recall_at(np.zeros((4, 4)), 3) == 0
