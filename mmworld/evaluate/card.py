"""The model card of nano: its recipe and the report of an evaluation, as text. No figure in it is typed by hand."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmworld import config
from mmworld.models.load import find
from mmworld.models.speakhead import HEAD, KIND
from mmworld.models.world import CONFIG, WEIGHTS, WorldConfig
from mmworld.train import real
from mmworld.train.recipe import Recipe
from mmworld.weights.checkpoint import read_header, write_atomic

CARD = "README.md"
RENDERED = {
    "scenes": "coloured shapes that move, appear, grow and blink, in order",
    "moments": "one coloured shape that does one thing, others that stand by",
    "stills": "pictures of coloured shapes: their counts and places",
    "sounds": "beeps, sweeps, bursts and clicks, in order",
    "sounding_scenes": "scenes with a sound track, at times one of the two alone",
    "films": "scenes with a sound track, always both",
    "shapes": "coloured solids as point clouds",
    "series": "sensor channels that rise, swing, step and spike",
}
REAL = {
    "flickr8k": ("Flickr8k, photographs with people's captions (train split)", "non-commercial research only"),
    "flickr8k_video": ("the same photographs, panned over as video", "non-commercial research only"),
    "captions": ("their captions alone", "non-commercial research only"),
    "esc10": ("ESC-10, environmental sounds, folds {folds}", "CC BY 3.0"),
    "fsdd": (
        "Free Spoken Digit Dataset, speakers {speakers}, and as much speech made by espeak-ng",
        "CC BY-SA 4.0",
    ),
    "radhar": ("RadHAR, millimetre-wave radar of a person moving (train split)", "BSD-3-Clause"),
    "pairs": ("something seen of the above with something unrelated heard", "as its parts"),
}
CANNOT = (
    "Name what is not in its training sets: it knows coloured shapes, "
    f"{len(real.SOUNDS)} sounds, {len(real.DIGITS)} digits, {len(real.MOTIONS)} movements and "
    "scenes like those of Flickr8k. Shown anything else, it still says one of these.",
    "Understand speech beyond single digits in English, or music.",
    "Understand real video: it learnt photographs panned over, so it says what a frame looks like, not what happens.",
    f"Describe photographs well: it learnt from {real.SIDE} x {real.SIDE} pixels, and its captions are often wrong. "
    "It must not be used to identify or judge people.",
    "Name solids or activities in scans of real rooms and streets, or read text.",
    "Answer questions, follow instructions, or speak another language.",
)


def write(report: dict[str, Any], recipes: Sequence[Recipe], folder: Path | str) -> Path:
    """Put the card into the model's folder; `report` is what `mmworld eval` wrote as JSON, `recipes` are the run's."""
    folder = find(folder)
    text = render(report, recipes, config.load(WorldConfig, folder / CONFIG), _parameters(folder), head(folder))
    write_atomic(folder / CARD, text.encode())
    return folder / CARD


def head(folder: Path) -> str:
    """What there is to say of the listen/speak head in a model's folder; nothing where there is none."""
    if not (folder / HEAD).is_file():
        return ""
    header = read_header(folder / HEAD)
    about = json.loads(header.pop("__metadata__")[KIND])["about"]
    recipe, weights = about["recipe"], sum(math.prod(t["shape"]) for t in header.values())
    kinds = _listed([f"{n} {kind}" for kind, n in recipe["streams"].items()])
    return (
        f"`mmworld train nano_speak` (seed {recipe['seed']}): a listen/speak head of {weights:,} weights for "
        f"`--as-trained`, in {recipe['passes']} passes through rendered streams of {recipe['seconds']:g} s ({kinds}). "
        f"On {recipe['held_out']} more of each, on which its threshold was chosen, it speaks at the right times with "
        f"an F1 of {about['f1']:.2f}; `benchmarks/when_to_speak.py` measures it on others."
    )


def render(
    report: dict[str, Any], recipes: Sequence[Recipe], world: WorldConfig, parameters: int, speaks: str = ""
) -> str:
    """The card as Markdown; `speaks` is what there is to say of a listen/speak head."""
    parts = (
        f"# mmworld-nano\n\nA captioner of video, images, sound, point clouds and sensor series with "
        f"{parameters / 1e6:.1f} M parameters, trained from scratch. It shows what mmworld does on any machine, and "
        "it knows a small world.\n\n"
        "**Licence of the weights: non-commercial research only**, because Flickr8k, which they learnt from, is.",
        "## Training data\n\n" + _data(recipes),
        "## Recipe\n\n" + _recipe(recipes, world) + (f"\n\n{speaks}" if speaks else ""),
        f"## Scores\n\n{_measured(report)}\n\n{_scores(report)}",
        "## What it cannot do\n\n" + "\n".join(f"- {line}" for line in CANNOT),
    )
    return "\n\n".join(parts) + "\n"


def _data(recipes: Sequence[Recipe]) -> str:
    draws = _draws(recipes)
    total = sum(draws.values())
    names = {"folds": _listed(recipes[-1].folds), "speakers": _listed(recipes[-1].speakers)}
    rows = []
    for source, n in draws.items():
        what, licence = REAL.get(source, (f"rendered here: {RENDERED.get(source, source)}", "ours, Apache-2.0"))
        rows.append((source, what.format(**names), f"{n / total:.0%}", licence))
    return _table(("source", "what", "share of draws", "licence"), rows)


def _draws(recipes: Sequence[Recipe]) -> dict[str, float]:
    """How often each source is drawn from, in all."""
    draws: dict[str, float] = defaultdict(float)
    for recipe, phase in ((r, p) for r in recipes for p in r.phases):
        for source, weight in phase.sources.items():
            draws[source] += weight / sum(phase.sources.values()) * phase.steps * recipe.batch
    return draws


def _recipe(recipes: Sequence[Recipe], world: WorldConfig) -> str:
    b = world.backbone
    return (
        f"`mmworld train nano`: {'; then, from the weights of that, '.join(map(_leg, recipes))}. Muon steps the "
        f"layers, AdamW the rest. Backbone: width {b.dim}, {b.depth} layers, {b.n_heads} heads. "
        f"Adapters: {_listed(sorted(world.adapters))}. Vocabulary: at most {world.vocab:,} pieces, learnt from the "
        "captions. The first lines of `configs/train/nano_start.yaml` say in what the shipped weights' first leg "
        "differed."
    )


def _leg(recipe: Recipe) -> str:
    opened = (f"{p.steps:,} of mostly {max(p.sources, key=p.sources.__getitem__)}" for p in recipe.opening)
    opening = f", the first {_listed(list(opened))}" if recipe.opening else ""
    return (
        f"{recipe.steps:,} steps of {recipe.batch} draws{opening} (seed {recipe.seed}; "
        f"peak learning rate {recipe.learning_rate:g} from step {recipe.warmup} to {recipe.level_until:,}, then "
        f"falling to 0, weight decay {recipe.weight_decay:g}, label smoothing {recipe.label_smoothing:g}, gradient "
        f"norm at most {recipe.clip:g}; {recipe.processes} processes; the weights are an average with decay "
        f"{recipe.ema:g})"
    )


def _measured(report: dict[str, Any]) -> str:
    text = f"By `mmworld eval nano`, on the weights of revision `{report['revision']}`; ± is one standard error."
    if any(s["suite"] in ("esc10", "fsdd") for s in report["scores"]):
        text += (
            " The shipped model learnt all the ESC-10 folds and FSDD speakers above; these two rows are of models that"
            " `configs/train/nano_fold.yaml` trained without the fold and the speaker they are tested on."
        )
    skipped = "".join(f" Not measured: {suite} ({why})." for suite, why in report["skipped"].items())
    return text + skipped


def _scores(report: dict[str, Any]) -> str:
    rows = []
    for s in report["scores"]:
        error = "" if s["error"] is None else f" ± {s['error']:.3f}"
        asked = "" if s["bar"] is None else f"≥ {s['bar']:.3f}, {'met' if s['met'] else '**not met**'}"
        beside = [f"{name} {value:.3f}" for name, value in s["baselines"].items()] + [s["note"]] * bool(s["note"])
        rows.append((s["suite"], s["name"], f"{s['value']:.3f}{error}", asked, "; ".join(beside), str(s["n"])))
    return _table(("suite", "measured", "score", "asked", "baselines, notes", "items"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _listed(names: Sequence[object]) -> str:
    return ", ".join(map(str, names))


def _parameters(folder: Path) -> int:
    header = read_header(folder / WEIGHTS)
    return sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
