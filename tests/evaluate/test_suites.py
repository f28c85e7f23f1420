"""Suites on speakers whose answers are known: always right, always wrong, or chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmworld.evaluate import baselines, folds, held_out, rendered
from mmworld.evaluate.score import Score, names, share
from mmworld.render import Rendered, mixed, scenes
from mmworld.train import real
from mmworld.train.store import Store
from mmworld.types import Chunk

Clips = Sequence[Sequence[Chunk]]


def store(rows: list[NDArray], captions: list[list[str]]) -> Store:
    ends = np.cumsum([len(r) for r in rows])
    return Store(np.concatenate(rows), ends, tuple(map(tuple, captions)), tuple(map(str, range(len(rows)))))


class Told:
    """Answers from a list made beforehand, whatever it is shown; keeps what it was shown."""

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers, self.seen = list(answers), []

    def __call__(self, clips: Clips) -> list[str]:
        at = len(self.seen)
        self.seen += [tuple(c) for c in clips]
        return self.answers[at : at + len(clips)]


def rng(i: int) -> np.random.Generator:
    return np.random.default_rng((rendered.SEED, i))


def values(scores: list[Score]) -> dict[str, float]:
    return {s.name: s.value for s in scores}


# --- rendered


def test_true_captions_of_the_unseen_scenes_are_all_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered, "HELD", 5)
    told = Told([scenes.clip(rng(i)).caption for i in range(12)])
    scores = rendered.unseen_scenes(told, 12)
    assert set(values(scores).values()) == {1.0}
    assert [s.n for s in scores] == [12] * 5
    assert len(told.seen) == 12
    assert {c.modality for chunks in told.seen for c in chunks} == {"video"}


@pytest.mark.parametrize(
    ("spoil", "objects", "colours", "order"),
    [
        (lambda c: c.replace("moves left", "moves right").replace("appears", "grows"), True, True, False),
        (lambda c: c.replace("red", "blue"), True, False, False),
        (lambda c: ", then ".join(reversed(c.split(", then "))), True, True, False),
        (lambda c: "a dog runs", False, False, False),
        (lambda c: "", False, False, False),
    ],
)
def test_a_wrong_word_costs_what_it_is_about(spoil: object, objects: bool, colours: bool, order: bool) -> None:
    true = [scenes.clip(rng(i)).caption for i in range(20)]
    told = [spoil(c) for c in true]
    changed = [a != b for a, b in zip(told, true, strict=True)]
    assert any(changed)
    got = values(rendered.unseen_scenes(Told(told), 20))
    spoilt, n = sum(changed), 20
    assert got["objects"] == pytest.approx(1 if objects else 1 - spoilt / n)
    assert got["colours"] == pytest.approx(1 if colours else 1 - spoilt / n)
    assert got["order"] == pytest.approx(1 if order else 1 - spoilt / n)
    assert got["all three"] == got["caption word for word"] == pytest.approx(1 - spoilt / n)


def test_scenes_are_always_the_same_and_no_other_seed_gives_them() -> None:
    said = Told([""] * 4), Told([""] * 4)
    for told in said:
        rendered.unseen_scenes(told, 4)
    for (a,), (b,) in zip(said[0].seen, said[1].seen, strict=True):
        assert a.data.equal(b.data)
    trained = [scenes.clip(np.random.default_rng((0, i))).chunks[0].data for i in range(4)]
    assert not any(a.data.equal(t) for (a,) in said[0].seen for t in trained if a.data.shape == t.shape)


@pytest.fixture
def sounding(monkeypatch: pytest.MonkeyPatch) -> list[Rendered]:
    """The first scenes with sound of the suite, rendered once."""
    made = [mixed.clip(rng(i)) for i in range(3)]
    monkeypatch.setattr(rendered, "_drawn", lambda draw, n: iter([made[:2], made[2:]]))
    return made


def test_two_at_once_are_compared_with_each_alone(sounding: list[Rendered]) -> None:
    parts = {id(c): r.caption.partition(". ") for r in sounding for c in r.chunks}

    def both_at_once(seen: str, heard: str, joint: str) -> dict[str, Score]:
        """Scores of one who says these formats of the truth of a picture, of a sound, of both."""

        def say(clips: Clips) -> list[str]:
            form = joint if len(clips[0]) == 2 else seen if clips[0][0].modality == "video" else heard
            true = [parts[id(c[0])] for c in clips]
            return [form.format(seen=t[0], heard=t[2]) for t in true]

        return {s.name: s for s in rendered.two_at_once(say, len(sounding))}

    good = both_at_once("{seen}", "{heard}", "{seen}. {heard}")
    assert all(s.met and s.value == 1 and s.baselines == {"alone": 1.0} for s in good.values())
    deaf = both_at_once("{seen}", "{heard}", "{seen}")
    assert deaf["seen, both at once"].met
    assert deaf["heard, both at once"].value == 0
    assert not deaf["heard, both at once"].met
    swapped = both_at_once("{seen}", "{heard}", "{heard}. {seen}")
    assert not any(s.met for s in swapped.values())
    better = both_at_once("nothing", "nothing", "{seen}. {heard}")
    assert all(s.met and s.value == 1 and s.baselines == {"alone": 0.0} for s in better.values())


def test_the_difference_of_two_at_once_has_its_paired_error() -> None:
    rows = [(True, True)] * 6 + [(False, True)] * 3 + [(True, False)]
    score = rendered._no_worse("seen", rows)
    error = np.std([0] * 6 + [-1] * 3 + [1]) / 10**0.5
    assert score.note == f"difference -0.200 ± {error:.3f}"
    assert score.bar == pytest.approx(0.9 - 2 * error)


# --- real sets, made up


def recordings(seconds: Sequence[float]) -> Store:
    made = []
    for s in seconds:
        t = np.arange(0, s + 1e-6, 0.1)
        made.append(np.column_stack((t, np.tile(t[:, None], 5))).astype(np.float32))
    kinds = list(real.MOTIONS.values())
    return store(made, [[kinds[i % len(kinds)]] for i in range(len(made))])


def test_radar_is_cut_into_windows_of_two_seconds_side_by_side() -> None:
    told = Told([""] * 50)
    (score,) = held_out.activities(told, recordings([6.05, 5.9, 2.5]))
    assert score.n == len(told.seen) == 3 + 2 + 1
    for (chunk,), first in zip(told.seen, [0, 2, 4, 0, 2, 0], strict=True):
        assert (chunk.start, chunk.end, chunk.modality) == (0.0, 2.0, "points")
        assert chunk.data[:, 11].min() == pytest.approx(0, abs=0.01)
        assert chunk.data[:, 11].max() < 2
        assert chunk.data[0, 0] == pytest.approx(first, abs=0.01)  # x is the time in the recording


def test_the_activity_has_to_be_named_and_no_other() -> None:
    kinds = list(real.MOTIONS.values())
    one_each = recordings([2.5] * 5)
    assert held_out.activities(Told(kinds), one_each)[0].value == 1
    assert held_out.activities(Told(kinds[1:] + kinds[:1]), one_each)[0].value == 0
    assert held_out.activities(Told([", then ".join(kinds)] * 5), one_each)[0].value == 0
    constant = held_out.activities(Told(kinds[:1] * 5), one_each)[0]
    assert constant.value == pytest.approx(constant.baselines["chance"])


def test_a_class_is_named_by_its_sentence_alone() -> None:
    kinds = ["a person is jumping", "a person is doing jumping jacks"]
    assert names("a person is jumping", kinds[0], kinds)
    assert not names("a person is doing jumping jacks", kinds[0], kinds)
    assert not names("a person is jumping. a person is doing jumping jacks", kinds[0], kinds)
    assert names("a red square. a person is jumping", kinds[0], kinds)


def photographs(n: int) -> Store:
    r = np.random.default_rng(0)
    words = r.permutation(["dog", "grass", "red", "man", "runs", "boat", "ball", "snow", "two", "child", "sea", "hat"])
    captions = [[f"a {a} with the {b} near a {c}" for a, b, c in r.choice(words, (5, 3))] for _ in range(n)]
    return store([r.integers(0, 256, (1, 3, 96, 96), np.uint8) for _ in range(n)], captions)


def test_captions_of_people_score_high_and_retrieval_finds_them() -> None:
    dev, train = photographs(20), photographs(4)
    right = [c[0] for c in dev.captions]

    def rank(clips: Clips, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.eye(len(clips)) if list(texts) == right else np.zeros((len(clips), len(texts)))

    got = {s.name: s for s in held_out.photographs(Told(right), rank, dev, train)}
    assert got["BLEU-4"].value == pytest.approx(1, abs=1e-3)
    assert got["CIDEr-D"].value > 1
    assert got["right caption among the best 5 of 20"].value == 1
    wrong = {s.name: s for s in held_out.photographs(Told(["rain"] * 20), rank, dev, train)}
    assert wrong["CIDEr-D"].value == 0
    assert not wrong["BLEU-4"].met
    assert wrong["BLEU-4"].baselines["constant"] < 0.1


def test_ranking_at_random_finds_as_often_as_chance() -> None:
    dev, train = photographs(200), photographs(2)
    r = np.random.default_rng(1)
    scores = held_out.photographs(Told(["a"] * 200), lambda c, t: r.random((len(c), len(t))), dev, train)
    recall = scores[-1]
    assert recall.baselines["chance"] == 0.025
    assert recall.bar == pytest.approx(0.075)
    assert recall.value < 0.075


# --- folds


def tones(hertz: Sequence[float], sentences: Sequence[str], seed: int) -> Store:
    """Four noisy tones of each pitch, named by the sentence of their place."""
    r = np.random.default_rng(seed)
    t = np.arange(8000) / 16_000
    rows, captions = [], []
    for f, sentence in zip(hertz, sentences, strict=True):
        for _ in range(4):
            rows.append((np.sin(2 * np.pi * f * t) + 0.01 * r.standard_normal(8000)).astype(np.float32))
            captions.append([sentence])
    return store(rows, captions)


def test_logistic_regression_names_separable_sounds_and_not_noise() -> None:
    kinds = ["low", "middle", "high"]
    apart = [tones((300, 1000, 4000), kinds, seed) for seed in range(3)]
    assert folds._baseline(apart, more=False) == folds._baseline(apart, more=True) == 1
    alike = [tones((1000, 1000, 1000), kinds, seed) for seed in range(3)]
    assert folds._baseline(alike, more=False) < 0.75


@pytest.mark.parametrize(("more", "size"), [(False, 128), (True, 320)])
def test_mel_statistics_are_those_of_the_bands(more: bool, size: int) -> None:
    loud = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    x = baselines.mel_statistics(loud, more=more)
    assert x.shape == (size,)
    quiet = baselines.mel_statistics(0.1 * loud, more=more)
    assert x[:64] - quiet[:64] == pytest.approx(np.full(64, x[0] - quiet[0]), abs=1e-2)
    assert x[64:128] == pytest.approx(quiet[64:128], abs=1e-2)


def test_nearest_colours() -> None:
    seen = [np.full((3, 96, 96), v, np.uint8) for v in (0, 100, 200)]
    assert list(baselines.nearest([p // 2 + 60 for p in seen], seen)) == [1, 1, 2]
    halves = np.concatenate((np.zeros((3, 96, 48)), np.full((3, 96, 48), 255)), 2).astype(np.uint8)
    assert list(baselines.nearest([halves], [halves[..., ::-1].copy(), *seen, halves])) == [4]


def test_each_model_is_asked_of_what_it_never_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = list(real.SOUNDS.values())
    pitches = np.geomspace(200, 6000, len(kinds))
    parts = {f: tones(pitches, kinds, f) for f in real.FOLDS}
    monkeypatch.setattr(real, "esc10", lambda data, fs: parts[fs[0]] if len(fs) == 1 else pytest.fail("one fold"))
    true = [kind for kind in kinds for _ in range(4)]
    (score,) = folds.environmental(lambda split: Told(true if split.fold < 3 else true[::-1]), Path())
    assert score.n == 120
    assert score.value == pytest.approx(2 / 3)
    assert score.note == "left out in turn: 1.000, 1.000, 0.000"
    assert score.bar == pytest.approx(1.05)  # five points ahead of a baseline that is right throughout
    assert score.baselines["chance"] == 0.1


def test_a_share_has_the_error_of_a_share() -> None:
    score = share("a", "b", [True] * 9 + [False], 0.9)
    assert (score.value, score.met) == (0.9, True)
    assert score.error == pytest.approx((0.09 / 10) ** 0.5)
    assert json.dumps(score.value)
