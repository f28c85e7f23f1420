"""A training run from its YAML file: start or go on, stop at any time, end with the same weights."""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.spawn import ProcessException

from mmworld.errors import ConfigError, ResourceError, UsageError
from mmworld.models import load as models
from mmworld.models.world import TOKENIZER, WEIGHTS, World
from mmworld.text.tokenizer import Tokenizer
from mmworld.train import checkpoint, real, sight, sources
from mmworld.train.batches import Batches
from mmworld.train.recipe import Recipe, legs
from mmworld.train.sources import Draw
from mmworld.weights.checkpoint import write_atomic

if TYPE_CHECKING:
    from lightning import Trainer

    from mmworld.train.module import Captioning

log = logging.getLogger(__name__)

SAMPLED = 400
"""Captions of each source that the vocabulary is learnt from, beside all of Flickr8k's."""


def run(path: Path | str, overrides: Sequence[str] = ()) -> Path:
    """Train what the recipe at `path` says, from its last checkpoint if there is one.

    SIGTERM, Ctrl-C and `max_hours` end a part after the step they come in; a part killed otherwise loses the steps
    since its last checkpoint, and does them again alike.

    Returns:
        The folder of the run; once all steps are done it holds the model (`mmworld.load` takes it).

    Raises:
        ConfigError: the recipe is wrong, or another than that of the run in its folder.
        UsageError: lightning is not installed.
        ResourceError: a checkpoint cannot be written, or `on_nan` is "stop" and a loss was not finite.
    """
    begun = time.monotonic()
    *earlier, last = legs(path, overrides)
    model: Path | None = None
    for leg in earlier:
        model = train(leg, model or leg.start)
        if not (model / WEIGHTS).is_file():
            return Path(last.out)
    left = last.max_hours and last.max_hours - (time.monotonic() - begun) / 3600
    return train(dataclasses.replace(last, max_hours=left), model or last.start)


def train(recipe: Recipe, start: Path | str | None = None) -> Path:
    """As `run`, for one recipe, which begins with the model `start` or, without one, with its `world`."""
    before = torch.get_num_threads()
    torch.set_num_threads(recipe.threads)
    try:
        return _train(recipe, start)
    finally:
        torch.set_num_threads(before)


def _train(recipe: Recipe, start: Path | str | None) -> Path:
    out = Path(recipe.out)
    _agree(recipe, out)
    data = Path(os.environ.get("MMWORLD_TEST_DATA", recipe.data))
    drawn = sources.build(list(recipe.sources), data, recipe.folds, recipe.speakers)
    world = _scratch(recipe, drawn, data) if start is None else _begun(start, recipe.seed)
    average = _fit(recipe, world, Batches(drawn, recipe.shares, world.tokenizer, recipe.seed, recipe.batch))
    if average is not None:
        export(world, average, out, drawn.values(), min(recipe.steps, sight.DRAWN))
    return out


def export(world: World, average: dict[str, Tensor], folder: Path, draws: Iterable[Draw], n: int) -> None:
    """Write the model with the averaged weights, for `mmworld.load`; its sight is fitted to n items of each source."""
    with torch.no_grad():
        for name, parameter in world.named_parameters():
            parameter.copy_(average[name])
    world.eval().sight = sight.fit(world, draws, n)
    world.save(folder)


def _fit(recipe: Recipe, world: World, batches: Batches) -> dict[str, Tensor] | None:
    """The averaged weights, or None if steps are left."""
    try:
        from mmworld.train.module import Captioning
    except ImportError:
        raise UsageError("training needs lightning", hint="pip install 'mmworld[train]'") from None

    deadline = time.monotonic() + (recipe.max_hours or float("inf")) * 3600
    with _signals() as received:
        module = Captioning(world, recipe, batches, lambda: received.value > 0 or time.monotonic() > deadline)
        module.resume()
        if module.done < recipe.steps:
            _together(module, recipe)
    log.info("%s: %d of %d steps done", recipe.out, module.done, recipe.steps)
    return module.average if module.done == recipe.steps else None


def _together(module: Captioning, recipe: Recipe) -> None:
    """Go on with the run in its processes, and bring what they came to into this one.

    Raises:
        ResourceError: a process failed or was killed.
    """
    try:
        _trainer(recipe.processes).fit(module)
    except ProcessException as e:
        *_, last = str(e).strip().splitlines()
        where = f"{recipe.out}: process {e.error_index} of the run"
        raise ResourceError(f"{where}: {last}", hint="the same command goes on from the last checkpoint") from None
    if recipe.processes > 1:
        module.resume()


def _trainer(processes: int) -> Trainer:
    from lightning import Trainer
    from lightning.pytorch.strategies import DDPStrategy, Strategy

    for name in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "Grad strides do not match")  # of convolutions; it costs nothing that shows
    strategy: Strategy | str = "auto"
    if processes > 1:
        start: Literal["popen", "fork"] = "popen" if torch.cuda.is_available() else "fork"
        strategy = DDPStrategy(start_method=start, find_unused_parameters=True)
    return Trainer(
        accelerator="auto",
        strategy=strategy,
        devices=processes,
        max_epochs=1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
    )


@contextmanager
def _signals() -> Iterator[Any]:
    """Counts SIGTERM and SIGINT instead of dying of them, in memory that forked processes see as well; a second one is
    obeyed at once."""
    received = multiprocessing.Value("i", 0)
    mine = os.getpid()

    def note(number: int, _: Any) -> None:
        if os.getpid() != mine:
            return  # a process of the same run: the one that started it hears the signal too
        if received.value:
            raise KeyboardInterrupt
        received.value += 1

    before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _agree(recipe: Recipe, out: Path) -> None:
    """Note the recipe in the folder of the run; ConfigError if another one is there."""
    mine = recipe.identity
    path = out / "recipe.json"
    if path.is_file():
        theirs = json.loads(path.read_text())
        changed = {k for k in mine if mine[k] != theirs.get(k)}
        if not changed:
            return
        done = checkpoint.steps_done(out)
        level = min(recipe.level_until, dataclasses.replace(recipe, steps=theirs["steps"]).level_until)
        if changed - ({"steps"} if done <= level else set()):
            raise ConfigError(
                f"{out}: begun with another {', '.join(sorted(changed))}", hint="choose another folder: out=…"
            )
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(mine, indent=1).encode())


def _begun(start: Path | str, seed: int) -> World:
    """The model at `start`, to be trained on; what training adds to it begins as the seed says."""
    torch.manual_seed(seed)
    return models.load(start).train().requires_grad_(True)


def _scratch(recipe: Recipe, drawn: dict[str, Draw], data: Path) -> World:
    """The untrained model, with a vocabulary learnt from the sources' captions when the run begins."""
    assert recipe.world is not None  # or the recipe would have a start
    path = Path(recipe.out) / TOKENIZER
    if not path.is_file():
        rng = np.random.default_rng(recipe.seed)
        texts = [draw(rng).caption for draw in drawn.values() for _ in range(SAMPLED)]
        if any(name.startswith("flickr8k") for name in drawn):
            texts += [c for captions in real.flickr8k(data).captions for c in captions]
        Tokenizer.train(texts, recipe.world.vocab).save(path)
    torch.manual_seed(recipe.seed)
    return World(recipe.world, Tokenizer.load(path))
