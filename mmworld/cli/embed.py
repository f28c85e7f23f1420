"""mmworld embed: a vector for each picture, film, sound or text."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmworld.cli.inputs import add_gate, expand, opened, settle_gate, span
from mmworld.cli.model import add_model, chosen
from mmworld.errors import UsageError

KINDS = (".npy", ".safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld embed`."""
    parser.add_argument("input", nargs="*", metavar="INPUT", help="files, folders, patterns, data: addresses")
    parser.add_argument("--text", action="append", default=[], metavar="TEXT", help="to embed too; repeatable")
    parser.add_argument("-o", "--output", metavar="FILE", help=".npy or .safetensors; without it JSON, one a line")
    add_model(parser.add_argument_group("model"))
    add_gate(parser)


def run(args: argparse.Namespace) -> int:
    """Print or write a row for each input and then for each text."""
    from mmworld.cli.console import report
    from mmworld.verbs.embed import embed

    if not args.input and not args.text:
        raise UsageError("nothing to embed", hint="an INPUT or --text")
    if args.output and Path(args.output).suffix not in KINDS:
        raise UsageError(f"{args.output}: vectors are written as {' or '.join(KINDS)}")
    settle_gate(args)
    names = expand(args.input)
    media = [opened(name, args) for name in names]
    rows = embed(*media, texts=args.text, model=chosen(args), **span(args))
    if args.output:
        _write(Path(args.output), rows)
        return 0
    for name, row in zip([*names, *args.text], rows.tolist(), strict=True):
        report("", {"of": name, "vector": row}, as_json=True)
    return 0


def _write(path: Path, rows: Any) -> None:
    import io

    import numpy as np

    from mmworld.weights.checkpoint import save_tensors, write_atomic

    if path.suffix == ".safetensors":
        save_tensors({"embeddings": rows}, path)
        return
    data = io.BytesIO()
    np.save(data, rows.numpy())
    write_atomic(path, data.getvalue())
