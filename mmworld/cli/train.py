"""mmworld train: a model from a recipe; stopped at any time, the same command goes on."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mmworld.cli.flags import SWITCH
from mmworld.errors import UsageError

RECIPES = Path(__file__).parents[1] / "configs" / "train"
"""The recipes that are part of the package, found by name too."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld train`."""
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
    parser.add_argument("override", nargs="*", metavar="KEY=VALUE", help="changes to it: steps=100 out=runs/mine")
    parser.add_argument("--json", **SWITCH, help="print a JSON document")


def run(args: argparse.Namespace) -> int:
    """Train, or go on; 0 once the model is there, 3 while steps are left."""
    from mmworld.cli.console import report
    from mmworld.models.world import WEIGHTS
    from mmworld.train import run as train

    path = _find(args.recipe)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out = train(path, args.override)
    if out.is_file():  # of a listen/speak head
        folder = out.parents[1]
        text = f"{out}: trained; --as-trained goes by it where {folder} is the model's"
        report(text, {"folder": str(folder), "done": True}, as_json=args.json)
        return 0
    done = (out / WEIGHTS).is_file()
    text = (
        f"{out}: trained; mmworld caption --model {out}" if done else f"{out}: steps are left, the same command goes on"
    )
    report(text, {"folder": str(out), "done": done}, as_json=args.json)
    return 0 if done else 3


def _find(recipe: str | None) -> Path:
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if recipe is None:
        raise UsageError("no RECIPE", hint=f"a YAML file, or one of {', '.join(names)}")
    return RECIPES / f"{recipe}.yaml" if recipe in names and not Path(recipe).is_file() else Path(recipe)
