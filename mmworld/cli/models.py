"""mmworld models: the models at hand and the systems whose checkpoints can be read, or the card of one model."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmworld.cli.flags import SWITCH
from mmworld.models.systems import SYSTEMS, System


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld models`."""
    parser.add_argument("model", nargs="?", metavar="M", help="print the card of this model: a name or a folder")
    parser.add_argument("--verify", **SWITCH, help="measure how far each system is from its reference (transformers)")
    parser.add_argument("--json", **SWITCH, help="print a JSON document")


def run(args: argparse.Namespace) -> int:
    """Print what there is, or one model's card; 3 if a system that was measured is too far from its reference."""
    from mmworld.cli.console import report
    from mmworld.models.load import SHIPPED, find

    if args.model is None:
        entries = [_describe(name, folder) for name, folder in SHIPPED.items() if folder.is_dir()]
        systems = [_system(row, verify=args.verify) for row in SYSTEMS]
        if args.json:
            report("", {"models": entries, "systems": systems}, as_json=True)
        else:
            print("\n".join(map(_line, entries)) or "no model is installed")
            _show(systems)
        return 3 if any(system["error"] is not None and not system["within"] for system in systems) else 0
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


def _system(row: System, *, verify: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {**asdict(row), "error": None, "within": None}
    if verify:
        from mmworld.models.zoo.parity import LIMIT, errors

        entry["error"] = max(errors(row).values())
        entry["within"] = entry["error"] <= LIMIT
    return entry


def _show(systems: list[dict[str, Any]]) -> None:
    """A line for each system, and under it the checkpoints of its kind: it fits 80 columns."""
    from rich.console import Console
    from rich.text import Text

    console, names = Console(soft_wrap=True), ("name", "task", "senses", "fusion")
    widths = [max(len(s[n]) for s in systems) + 2 for n in names]
    heads = ("system", "does", "of", "fusion", "off by")
    console.print(Text("\n" + "".join(h.ljust(w) for h, w in zip(heads, (*widths, 0), strict=True)), style="bold"))
    for s in systems:
        line = Text("".join(s[n].ljust(w) for n, w in zip(names, widths, strict=True)))
        if s["error"] is not None:
            line.append(f"{s['error']:.1e}", style="green" if s["within"] else "bold red")
        console.print(line)
        if s["fits"]:
            console.print(Text("  " + " ".join(s["fits"]), style="dim"))


def _line(entry: dict[str, Any]) -> str:
    size = f"{entry['parameters'] / 1e6:.1f} M parameters, {entry['bytes'] / 1e6:.1f} MB"
    return f"{entry['name']:<12} {size:<32} {entry['folder']}"
