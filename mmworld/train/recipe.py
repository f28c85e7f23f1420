"""What a training run is, as its YAML file says."""

from __future__ import annotations

from typing import Literal

from mmworld.config import config
from mmworld.models.world import WorldConfig


@config
class Recipe:
    """
    Attributes:
        world: the model.
        sources: name of each source (see mmworld.train.sources) and its share of the items.
        data: folder of the real sets, with `train` and `eval` in it.
        out: folder of the run: vocabulary, checkpoints, log, and at the end the model.
        folds, speakers: parts of ESC-10 and FSDD that are trained on.
        steps: of the whole run, whatever parts it is done in.
        batch: items a step.
        learning_rate: its peak; it rises over `warmup` steps and falls to nothing as a cosine.
        label_smoothing: share of the target that is spread over the vocabulary.
        words: weight of the loss of the words a caption has (see mmworld.train.module.Words).
        clip: largest norm of the gradient.
        ema: decay of the moving average of the weights, which is what is kept.
        threads: of torch.
        save_every, log_every: steps between checkpoints and between lines of the log.
        max_hours: stop after so long, to be resumed.
        on_nan: what a loss or gradient that is not finite does: its batch, logged, is skipped or ends the run.
    """

    world: WorldConfig
    sources: dict[str, float]
    data: str = "../shared/data"
    out: str = "runs/nano"
    folds: tuple[int, ...] = (1, 2, 3)
    speakers: tuple[str, ...] = ("george", "jackson", "theo")
    seed: int = 0
    steps: int = 10_000
    batch: int = 32
    learning_rate: float = 1e-3
    warmup: int = 500
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    words: float = 0.5
    clip: float = 1.0
    ema: float = 0.999
    threads: int = 2
    save_every: int = 250
    log_every: int = 20
    max_hours: float | None = None
    on_nan: Literal["skip", "stop"] = "skip"
