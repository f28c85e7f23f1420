"""mmworld data: which training sets are there, and what shards hold, by the same strict reader as training."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmworld.cli.caption import verdict
from mmworld.cli.flags import SWITCH
from mmworld.errors import MediaError

SETS = {
    "flickr8k": ("train/flickr8k96-*.tar", "photographs, 5 captions each; Hodosh et al. 2013, research only"),
    "esc10": ("train/esc10-fold*.tar", "10 kinds of sound; github.com/karolpiczak/ESC-50, CC BY"),
    "fsdd": ("train/fsdd-*.tar", "spoken digits; github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA"),
    "radhar": ("train/radhar-*.tar", "radar of activities; github.com/nesl/RadHAR, BSD-3-Clause"),
}
"""Name to where its shards lie in the folder of sets, and what and whose it is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld data`."""
    parser.add_argument(
        "path",
        nargs="*",
        metavar="PATH",
        help="tars in the WebDataset layout, or folders of them; none: the sets of the nano recipe",
    )
    parser.add_argument("--json", **SWITCH, help="print a JSON document")


def run(args: argparse.Namespace) -> int:
    """Print a line a shard; 0, 3 if some are bad, 4 if all are."""
    from mmworld.cli.console import report, say
    from mmworld.cli.inputs import expand

    if not args.path:
        return _sets(args)
    entries: list[dict[str, Any]] = []
    whole: list[bool | None] = []
    for path in _tars(expand(args.path, whole_folders=True)):
        try:
            entries.append(_count(path))
            whole.append(True)
        except MediaError as e:
            say(str(e))
            whole.append(None)
    lines = [f"{e['samples']:>8} samples  {_suffixes(e['suffixes']):<24} {e['path']}" for e in entries]
    report("\n".join(lines), {"shards": entries}, as_json=args.json)
    return verdict(whole)


def _sets(args: argparse.Namespace) -> int:
    """A line a set of the nano recipe; 0, or 3 if one is absent."""
    from mmworld import config
    from mmworld.cli.console import report
    from mmworld.cli.train import RECIPES
    from mmworld.train.recipe import Recipe

    folder = Path(os.environ.get("MMWORLD_TEST_DATA") or config.load(Recipe, RECIPES / "nano.yaml").data)
    entries = []
    for name, (pattern, origin) in SETS.items():
        found = sorted(str(path) for path in folder.glob(pattern))
        entries.append({"name": name, "shards": found, "expected": str(folder / pattern), "origin": origin})
    lines = [f"{e['name']:<10} {_presence(e):<44} {e['origin']}" for e in entries]
    report("\n".join(lines), {"folder": str(folder), "sets": entries}, as_json=args.json)
    return 0 if all(e["shards"] for e in entries) else 3


def _presence(entry: dict[str, Any]) -> str:
    return f"{len(entry['shards'])} shards" if entry["shards"] else f"absent: {entry['expected']}"


def _tars(paths: Iterable[str]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(path.rglob("*.tar")) if path.is_dir() else [path]
        if not inside:
            raise MediaError("missing", f"{path}: no tar in this folder")
        found += inside
    return found


def _count(path: Path) -> dict[str, Any]:
    from mmworld.train.shards import samples

    suffixes: Counter[str] = Counter()
    n = 0
    for sample in samples(path):
        n += 1
        suffixes.update(suffix for suffix in sample if suffix != "__key__")
    return {"path": str(path), "samples": n, "suffixes": dict(suffixes)}


def _suffixes(counts: dict[str, int]) -> str:
    return " ".join(sorted(counts)) or "empty"
