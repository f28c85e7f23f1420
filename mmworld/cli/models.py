"""mmworld models: the models at hand, or the card of one."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from mmworld.cli.caption import SWITCH


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld models`."""
    parser.add_argument("model", nargs="?", metavar="M", help="print the card of this model: a name or a folder")
    parser.add_argument("--json", **SWITCH, help="print a JSON document")


def run(args: argparse.Namespace) -> int:
    """Print a line a model, or one model's card."""
    from mmworld.cli.console import report
    from mmworld.models.load import SHIPPED, find

    if args.model is None:
        entries = [_describe(name, folder) for name, folder in SHIPPED.items() if folder.is_dir()]
        report("\n".join(map(_line, entries)) or "no model is installed", {"models": entries}, as_json=args.json)
        return 0
    folder = find(args.model)
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    entry = _describe(args.model, folder)
    report(text.rstrip() or _line(entry), {**entry, "card": text}, as_json=args.json)
    return 0


def _describe(name: str, folder: Path) -> dict[str, Any]:
    from mmworld.models.world import WEIGHTS
    from mmworld.weights.checkpoint import read_header

    tensors = {n: t for n, t in read_header(folder / WEIGHTS).items() if n != "__metadata__"}
    parameters = sum(math.prod(t["shape"]) for t in tensors.values())
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return {"name": name, "folder": str(folder), "parameters": parameters, "bytes": size}


def _line(entry: dict[str, Any]) -> str:
    size = f"{entry['parameters'] / 1e6:.1f} M parameters, {entry['bytes'] / 1e6:.1f} MB"
    return f"{entry['name']:<12} {size:<32} {entry['folder']}"
