"""mmworld demo: captions the sample media of the package, as they are made, and draws the first one's timeline."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmworld.cli.caption import add_speech, verdict
from mmworld.cli.inputs import LIMITS

SAMPLES = Path(__file__).parents[1] / "samples"
CAPTIONS = SAMPLES / "captions.json"
"""Sample to the sentence that is true of it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld demo`."""
    add_speech(parser)
    parser.add_argument("--plot", default="mmworld-demo.png", metavar="FILE", help="where the timeline is drawn")
    parser.add_argument(
        "--json", action=argparse.BooleanOptionalAction, default=False, help="JSON documents, one a line"
    )
    limits = {f"limit_{name}": None for name in LIMITS}
    nothing = dict.fromkeys(("start", "end", "fps", "input_format"))
    parser.set_defaults(at_end=True, allow_url=False, progress="auto", **nothing, **limits)


def run(args: argparse.Namespace) -> int:
    """Caption every sample; 0 if all could be."""
    from mmworld.cli.console import say
    from mmworld.cli.targets import Targets
    from mmworld.cli.work import Work

    truths = json.loads(CAPTIONS.read_text(encoding="utf-8"))
    work = Work(args, several=False)
    for i, (name, truth) in enumerate(truths.items()):
        targets: Targets = {"json" if args.json else "live": None}
        if i == 0:
            targets["plot"] = Path(args.plot)
        say(f"{name}, made as: {truth}")
        whole = work.caption([(str(SAMPLES / name), targets)])
    say(f"timeline of {next(iter(truths))}: {args.plot}")
    return verdict(whole)
