"""mmworld find: when something was told of a stream that was watched with --memory."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from mmworld.cli.console import report, shown
from mmworld.cli.flags import SWITCH, count, seconds
from mmworld.cli.formats import clock
from mmworld.cli.inputs import check_span
from mmworld.cli.model import device
from mmworld.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld find`."""
    parser.add_argument("question", nargs="?", help="words or a question; without it all of --start to --end")
    parser.add_argument("--memory", required=True, metavar="FILE", help="that mmworld watch --memory has written")
    parser.add_argument("--most", type=count, default=5, metavar="N", help="moments shown (5)")
    parser.add_argument("--start", type=seconds, metavar="TIME", help="from here on: seconds or HH:MM:SS.mmm")
    parser.add_argument("--end", type=seconds, metavar="TIME", help="up to here")
    parser.add_argument("--model", default="nano", metavar="M", help="that watched: its words' meanings (nano)")
    parser.add_argument("--device", type=device, default="cpu", metavar="D", help="cpu, cuda or cuda:N")
    parser.add_argument("--json", **SWITCH, help="one JSON document")


def run(args: argparse.Namespace) -> int:
    """Print the moments that fit, the best first."""
    from mmworld.verbs.watch import recall

    check_span(args)
    if not Path(args.memory).is_file():
        raise UsageError(f"{shown(args.memory)}: no such file", hint="mmworld watch --memory writes one")
    span = (args.start or 0.0, math.inf if args.end is None else args.end)
    moments = recall(args.memory, args.question, model=args.model, device=args.device, most=args.most, span=span)
    lines = [f"[{clock(m.start)} --> {clock(m.end)}]  {m.text or f'({m.seen})'}" for m in moments]
    found = [{"start": m.start, "end": m.end, "text": m.text, "seen": m.seen, "source": m.source} for m in moments]
    report("\n".join(lines) or "nothing found", {"moments": found}, as_json=args.json)
    return 0
