"""What a training run is, as its YAML file says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mmworld.config import config, load
from mmworld.errors import ConfigError
from mmworld.models.world import WorldConfig

FREE = {"max_hours", "threads", "save_every", "log_every", "data", "out"}
"""What may change between the parts of one run."""


@config
class Phase:
    """So many steps of a run's beginning that draw from other shares."""

    steps: Annotated[int, Field(gt=0)]
    sources: dict[str, float]


@config
class Recipe:
    """
    Attributes:
        sources: name of each source (see mmworld.train.sources) and its share of the items.
        world: the model, when it begins from scratch.
        start: what it begins with otherwise: a model (a shipped one's name or a folder), or a recipe beside this one,
            whose run then comes first, in `out`/start.
        opening: what the first steps draw from, phase after phase: simple things make hard ones learnable sooner
            (curriculum: Bengio et al. 2009).
        data: folder of the real sets, with `train` and `eval` in it.
        out: folder of the run: vocabulary, checkpoints, log, and at the end the model.
        folds, speakers: parts of ESC-10 and FSDD that are trained on.
        steps: of the whole run, whatever parts it is done in. A run may be given other `steps` as long as its learning
            rate is still level under both.
        batch: items a step.
        learning_rate: its peak, which it has from step `warmup` until the last `fall` of the steps.
        fall: share of the steps in which the learning rate falls to nothing.
        label_smoothing: share of the target that is spread over the vocabulary.
        words: weight of the loss of the words a caption has (see mmworld.train.module.Words).
        clip: largest norm of the gradient.
        ema: decay of the moving average of the weights, which is what is kept.
        processes: each does its part of every step (on GPUs: as many GPUs).
        threads: of torch, in each process.
        save_every, log_every: steps between checkpoints and between lines of the log.
        max_hours: stop after so long, to be resumed.
        on_nan: what a loss or gradient that is not finite does: its batch, logged, is skipped or ends the run.
    """

    sources: dict[str, float]
    world: WorldConfig | None = None
    start: str | None = None
    opening: tuple[Phase, ...] = ()
    data: str = "../shared/data"
    out: str = "runs/nano"
    folds: tuple[int, ...] = (1, 2, 3)
    speakers: tuple[str, ...] = ("george", "jackson", "theo")
    seed: int = 0
    steps: int = 10_000
    batch: int = 32
    learning_rate: float = 1e-3
    warmup: int = 500
    fall: float = 0.3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    words: float = 0.5
    clip: float = 1.0
    ema: float = 0.999
    processes: int = 1
    threads: int = 2
    save_every: int = 250
    log_every: int = 20
    max_hours: float | None = None
    on_nan: Literal["skip", "stop"] = "skip"

    def __post_init__(self) -> None:
        if (self.world is None) == (self.start is None):
            raise ValueError("needs either world or start")
        if unknown := sorted({s for phase in self.opening for s in phase.sources} - self.sources.keys()):
            raise ValueError(f"opening: {', '.join(unknown)} not among the sources")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All of the run; a run shorter than its opening has that still."""
        left = self.steps - sum(phase.steps for phase in self.opening)
        return (*self.opening, Phase(left, self.sources)) if left > 0 else self.opening

    def shares(self, step: int) -> dict[str, float]:
        """The sources that step draws from."""
        for phase in self.opening:
            if step < phase.steps:
                return phase.sources
            step -= phase.steps
        return self.sources

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the weights that a run ends with, as plain data."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples become lists
        return {k: v for k, v in plain.items() if k not in FREE}

    @property
    def level_until(self) -> int:
        """The step at which the learning rate begins to fall."""
        return max(self.warmup, round(self.steps * (1 - self.fall)))


def legs(path: Path | str, overrides: Sequence[str] = ()) -> list[Recipe]:
    """The recipe at `path`, last, after those it starts with; what is free they take from it.

    Raises:
        ConfigError: one of them is wrong, or starts with itself.
    """
    recipe, path = load(Recipe, path, overrides), Path(path)
    recipes, seen = [recipe], {path.resolve()}
    while (recipe.start or "").endswith(".yaml"):
        path = path.parent / str(recipe.start)
        if path.resolve() in seen:
            raise ConfigError(f"{path}: starts with itself")
        seen.add(path.resolve())
        free = {k: getattr(recipe, k) for k in FREE} | {"out": f"{recipe.out}/start"}
        recipe = replace(load(Recipe, path), **free)
        recipes.insert(0, recipe)
    return recipes
