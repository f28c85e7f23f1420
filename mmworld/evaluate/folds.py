"""Sounds and voices that the model never heard: models trained without them by nano's recipe, its audio part alone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from mmworld import __version__, config
from mmworld.errors import ResourceError
from mmworld.evaluate import baselines
from mmworld.evaluate.rendered import Say
from mmworld.evaluate.score import Score, names, share
from mmworld.models.world import WEIGHTS
from mmworld.train import fit, real
from mmworld.train.recipe import Recipe
from mmworld.train.store import Store, cache_folder
from mmworld.types import Chunk

log = logging.getLogger(__name__)

RECIPE = Path(__file__).parents[1] / "configs" / "train" / "nano_fold.yaml"
SAID = tuple(f"someone says {d}" for d in real.DIGITS)


@dataclasses.dataclass(frozen=True)
class Split:
    """What one of the models was trained without: an ESC-10 fold and an FSDD speaker."""

    fold: int
    speaker: str


SPLITS = tuple(Split(f, s) for f, s in zip(real.FOLDS, real.SPEAKERS, strict=True))
Hear = Callable[[Split], Say]
"""The captions of a model trained without what the split names."""


def trained(split: Split, data: Path, threads: int, path: Path = RECIPE) -> Path:
    """The folder of the model for `split`: from the cache, or trained now (minutes); a part done is gone on with.

    Raises:
        UsageError: lightning is not installed.
        ResourceError: training was stopped before its last step.
    """
    recipe = config.load(Recipe, path)
    folds = tuple(f for f in real.FOLDS if f != split.fold)
    speakers = tuple(s for s in real.SPEAKERS if s != split.speaker)
    recipe = dataclasses.replace(recipe, folds=folds, speakers=speakers, data=str(data))
    made = json.dumps([__version__, recipe.identity], sort_keys=True)
    digest = hashlib.sha256(made.encode()).hexdigest()[:12]
    out = cache_folder() / f"fold{split.fold}-{split.speaker}-{digest}"
    if not (out / WEIGHTS).is_file():
        log.info("training without fold %d and speaker %s, some minutes, into %s", split.fold, split.speaker, out)
        each = max(1, threads // recipe.processes)
        fit.train(dataclasses.replace(recipe, out=str(out), threads=each))
    if not (out / WEIGHTS).is_file():
        raise ResourceError(f"{out}: training was stopped", hint="the same command goes on")
    return out


def environmental(hear: Hear, data: Path) -> list[Score]:
    """ESC-10, three folds: the caption names what sounds, by a model trained on the other two folds."""
    stores = {s: real.esc10(data, [s.fold]) for s in SPLITS}
    asked = 0.75
    return _left_out("esc10", "sound named", hear, stores, tuple(real.SOUNDS.values()), asked, ahead=0.05)


def digits(hear: Hear, data: Path) -> list[Score]:
    """FSDD: the caption says the digit, by a model that never heard the speaker."""
    stores = {s: real.fsdd(data, [s.speaker]) for s in SPLITS}
    return _left_out("fsdd", "digit of an unseen speaker", hear, stores, SAID, 0.85)


def _left_out(
    suite: str,
    name: str,
    hear: Hear,
    stores: dict[Split, Store],
    sentences: Sequence[str],
    asked: float,
    ahead: float | None = None,
) -> list[Score]:
    """The share right over all parts, and part by part; `ahead` of the plain baseline too, where it is given."""
    right = {split: _right(hear(split), store, sentences) for split, store in stores.items()}
    plain, rich = (_baseline(list(stores.values()), more) for more in (False, True))
    beside = {"chance": 1 / len(sentences), "logistic, mel mean and deviation": plain}
    beside["logistic, and extremes, steps"] = rich
    bar = asked if ahead is None else max(asked, plain + ahead)
    parts = ", ".join(f"{np.mean(r):.3f}" for r in right.values())
    return [share(suite, name, [r for rs in right.values() for r in rs], bar, beside, f"left out in turn: {parts}")]


def _right(say: Say, store: Store, sentences: Sequence[str]) -> list[bool]:
    said = say([(clip(wave),) for wave in _each(store)])
    return [names(s, c, sentences) for s, (c,) in zip(said, store.captions, strict=True)]


def _baseline(stores: Sequence[Store], more: bool) -> float:
    """Share right of logistic regression, each store predicted from the others."""
    x = [np.stack([baselines.mel_statistics(w, more=more) for w in _each(s)]) for s in stores]
    y = [[c for (c,) in s.captions] for s in stores]
    right = []
    for i in range(len(stores)):
        rest = [j for j in range(len(stores)) if j != i]
        seen, kinds = np.concatenate([x[j] for j in rest]), [c for j in rest for c in y[j]]
        right += [a == b for a, b in zip(baselines.logistic(seen, kinds, x[i]), y[i], strict=True)]
    return float(np.mean(right))


def clip(wave: np.ndarray) -> Chunk:
    """A whole sound float32 [S] at 16 kHz as one chunk."""
    return Chunk(torch.from_numpy(np.array(wave)[:, None]), 0.0, len(wave) / real.RATE, "audio", last=True)


def _each(store: Store) -> Iterator[np.ndarray]:
    return (store[i] for i in range(len(store)))
