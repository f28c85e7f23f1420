"""mmworld data: what training shards hold, read through the same strict reader as training."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmworld.errors import MediaError, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld data`."""
    parser.add_argument("path", nargs="*", metavar="PATH", help="tars in the WebDataset layout, or folders of them")
    parser.add_argument("--json", action=argparse.BooleanOptionalAction, default=False, help="print a JSON document")


def run(args: argparse.Namespace) -> int:
    """Print a line a shard; 0, 3 if some are bad, 4 if all are."""
    from mmworld.cli.console import report, say
    from mmworld.cli.inputs import expand

    if not args.path:
        raise UsageError("no PATH", hint="tars, or folders of them")
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
    from mmworld.cli.caption import verdict

    return verdict(whole)


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
