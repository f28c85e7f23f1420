"""Fit the sight of a model, of the sources of nano's recipe, and write it into the model's folder.

python scripts/sight.py [nano] [--data ../shared/data]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from mmworld.evaluate.nano import RECIPE
from mmworld.models.load import find, load
from mmworld.models.world import SIGHT
from mmworld.train import sources
from mmworld.train.recipe import legs
from mmworld.train.sight import fit
from mmworld.weights.checkpoint import save_tensors

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="nano")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    args = parser.parse_args()
    recipe = legs(RECIPE)[-1]
    draws = sources.build(list(recipe.sources), args.data, recipe.folds, recipe.speakers)
    save_tensors({"sight": fit(load(args.model), draws.values()).to(torch.float16)}, find(args.model) / SIGHT)
