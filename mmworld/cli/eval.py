"""mmworld eval: a model's scores on held-out data, as a table."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys

from mmworld.cli.flags import SWITCH, count
from mmworld.cli.model import device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld eval`."""
    parser.add_argument("model", nargs="?", default="nano", metavar="M", help="a name or a folder (nano)")
    parser.add_argument("--suite", type=_names, metavar="S,S", help="only these suites (all)")
    parser.add_argument("--data", metavar="DIR", help="folder of the real sets")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the report as JSON there too")
    parser.add_argument("--card", **SWITCH, help="write the report into the model's card, its README.md")
    parser.add_argument("--device", type=device, default="cpu", metavar="D", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=count, default=2, metavar="N", help="CPU threads (2)")
    parser.add_argument("--json", **SWITCH, help="print the report as JSON instead of the table")


def run(args: argparse.Namespace) -> int:
    """Print the table; 0, or 3 if a suite had to be left out."""
    from mmworld.evaluate import nano

    with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
        report = nano.run(
            args.model,
            args.suite or nano.SUITES,
            data=args.data,
            json_path=args.output,
            device=args.device,
            threads=args.threads,
        )
    if args.json:
        print(json.dumps(report.as_dict()))
    if args.card:
        _write_card(report.as_dict(), args.model)
    return 3 if report.skipped else 0


def _write_card(report: dict[str, object], model: str) -> None:
    from mmworld.evaluate import card, nano
    from mmworld.train.recipe import legs

    print(card.write(report, legs(nano.RECIPE), model))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
