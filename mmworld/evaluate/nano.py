"""`mmworld eval nano`: every figure that the model is held to, measured by one command."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmworld import config
from mmworld.errors import MediaError, ResourceError, SourceError, UsageError
from mmworld.evaluate import folds, held_out, rendered
from mmworld.evaluate.rendered import Say
from mmworld.evaluate.score import Score, table
from mmworld.generate.beam import Beam
from mmworld.generate.decode import generate_many
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.score import score_texts
from mmworld.models.load import find, load
from mmworld.models.world import Item, World
from mmworld.train import real
from mmworld.train.recipe import Recipe
from mmworld.types import Chunk
from mmworld.weights.checkpoint import write_atomic
from mmworld.weights.shards import revision

SUITES = ("scenes", "mixed", "radhar", "flickr8k", "esc10", "fsdd")
PHOTOGRAPHS = Beam(3)
"""How photographs are captioned: where a caption is uncertain, the likeliest sentence beats the likeliest words
(greedy was lower on both metrics)."""
SCHEMA_VERSION = 1
RECIPE = Path(__file__).parents[1] / "configs" / "train" / "nano.yaml"


@dataclass(frozen=True)
class Report:
    """What a run measured.

    Attributes:
        scores: in the order of the suites.
        seconds: that each suite took.
        skipped: suites that could not be run, and why.
    """

    model: str
    revision: str
    scores: tuple[Score, ...]
    seconds: dict[str, float]
    skipped: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        scores = [{**asdict(s), "met": s.met} for s in self.scores]
        return {"schema_version": SCHEMA_VERSION, "seed": rendered.SEED, **asdict(self), "scores": scores}


def run(
    model: str | os.PathLike[str] = "nano",
    suites: Sequence[str] = SUITES,
    *,
    data: Path | str | None = None,
    json_path: Path | str | None = None,
    device: str = "cpu",
    threads: int = 2,
) -> Report:
    """`measure`, print the table, and write the report as JSON to `json_path` if that is given."""
    report = measure(model, suites, data=data, device=device, threads=threads)
    show(report)
    if json_path is not None:
        write(report, json_path)
    return report


def measure(
    model: str | os.PathLike[str] = "nano",
    suites: Sequence[str] = SUITES,
    *,
    data: Path | str | None = None,
    device: str = "cpu",
    threads: int = 2,
) -> Report:
    """Score a model. A suite whose data or extra is missing is skipped, and the report says which is missing.

    Args:
        model: a shipped name or a folder.
        suites: names from SUITES.
        data: folder of the real sets (default: $MMWORLD_TEST_DATA, or as nano's recipe says).
        device: of torch.
        threads: of torch, here and in training the models of the folds.

    Raises:
        UsageError: a suite is unknown.
        CheckpointError: the model cannot be loaded.
    """
    if unknown := set(suites) - set(SUITES):
        raise UsageError(f"no suite {', '.join(sorted(unknown))}", hint=f"one of {', '.join(SUITES)}")
    torch.set_num_threads(threads)
    measured = _suites(load(model, device), _data(data), device, threads)
    scores: list[Score] = []
    seconds: dict[str, float] = {}
    skipped: dict[str, str] = {}
    for suite in suites:
        before = time.perf_counter()
        try:
            scores += measured[suite]()
            seconds[suite] = round(time.perf_counter() - before, 1)
        except (MediaError, UsageError, ResourceError) as e:
            skipped[suite] = str(e)
    return Report(str(model), revision(find(model)), tuple(scores), seconds, skipped)


def write(report: Report, path: Path | str) -> None:
    """The report as JSON; ResourceError if it cannot be written."""
    write_atomic(path, json.dumps(report.as_dict(), indent=1).encode())


def show(report: Report) -> None:
    """Print the table to stdout."""
    from rich.console import Console

    console = Console()
    title = f"{report.model} (revision {report.revision})"
    console.print(table(report.scores, report.seconds, title))
    for suite, reason in report.skipped.items():
        console.print(f"{suite}: skipped, {reason}", markup=False, highlight=False, soft_wrap=True)


def captions(world: World, sampler: Sampler | Beam = GREEDY) -> Say:
    """What the model says of each item; items of one length are decoded side by side."""

    def say(clips: Sequence[Sequence[Chunk]]) -> list[str]:
        order = sorted(range(len(clips)), key=lambda i: sum(len(c.data) for c in clips[i]))
        made = generate_many(world, [Item(tuple(clips[i]), world.prompt()) for i in order], sampler)
        texts = dict(zip(order, (m.text for m in made), strict=True))
        return [texts[i] for i in range(len(clips))]

    return say


def fits(world: World, clips: Sequence[Sequence[Chunk]], texts: Sequence[str]) -> NDArray[np.float64]:
    """Log-probability of each text given each item less that given nothing, which favours what is often said."""
    given = score_texts(world, [Item(tuple(c), world.prompt()) for c in clips], texts)
    return (given - score_texts(world, [Item((), world.prompt())], texts)).double().cpu().numpy()


def _suites(world: World, data: Path, device: str, threads: int) -> dict[str, Callable[[], list[Score]]]:
    say, describe = captions(world), captions(world, PHOTOGRAPHS)

    def rank(clips: Sequence[Sequence[Chunk]], texts: Sequence[str]) -> NDArray[np.float64]:
        return fits(world, clips, texts)

    def hear(split: folds.Split) -> Say:
        return captions(load(folds.trained(split, data, threads), device))

    return {
        "scenes": lambda: rendered.unseen_scenes(say),
        "mixed": lambda: rendered.two_at_once(say),
        "radhar": lambda: held_out.activities(say, real.radhar(_there(data), "val")),
        "flickr8k": lambda: _photographs(describe, rank, _there(data)),
        "esc10": lambda: folds.environmental(hear, _there(data)),
        "fsdd": lambda: folds.digits(hear, _there(data)),
    }


def _photographs(describe: Say, rank: held_out.Rank, data: Path) -> list[Score]:
    """On the 200 that are asked about, and on 400 others: how much a score hangs on the photographs is seen."""
    train, others = real.flickr8k(data), real.flickr8k(data, "val")
    asked = held_out.photographs(describe, rank, real.flickr8k_dev(data), train)
    return [*asked, *held_out.described(describe, others, train, ", 400 other photographs")]


def _data(data: Path | str | None) -> Path:
    return Path(data or os.environ.get("MMWORLD_TEST_DATA") or config.load(Recipe, RECIPE).data)


def _there(data: Path) -> Path:
    if not data.is_dir():
        raise SourceError("missing", f"{data}: no such folder of real sets", hint="name it with --data")
    return data
