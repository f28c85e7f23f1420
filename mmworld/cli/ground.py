"""mmworld ground: what is in pictures and where, or where what a phrase names is."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from mmworld.cli.flags import SWITCH, count
from mmworld.cli.inputs import add_gate, expand, opened, settle_gate, span
from mmworld.cli.model import add_model, chosen
from mmworld.errors import UsageError

if TYPE_CHECKING:
    from mmworld.text.grounding import Grounded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld ground`."""
    parser.add_argument("input", nargs="*", metavar="IMAGE", help="files, folders, patterns, data: addresses")
    parser.add_argument("--phrase", metavar="TEXT", help="what to look for; without it the whole picture is told of")
    add_model(parser.add_argument_group("model"))
    parser.add_argument("--max-tokens", type=count, default=256, metavar="N", help="longest text (256)")
    parser.add_argument("--plot", metavar="FILE", help="draw the boxes (png, svg, pdf); {stem} for several inputs")
    parser.add_argument("--json", **SWITCH, help="an object for each input, one a line")
    add_gate(parser)


def run(args: argparse.Namespace) -> int:
    """Print what each picture shows, and the boxes of what is spoken of as shares of its sides."""
    from mmworld.cli.boxes import draw
    from mmworld.cli.console import report
    from mmworld.cli.targets import plan
    from mmworld.generate.stop import Stop
    from mmworld.models.looking import parts
    from mmworld.verbs.ground import ground, grounder

    if not args.input:
        raise UsageError("no picture", hint="mmworld ground a.jpg --model M")
    settle_gate(args)
    names = expand(args.input)
    targets, model = plan(names, (), None, args.plot), grounder(chosen(args))
    for name, target in zip(names, targets, strict=True):
        shown = parts(opened(name, args), model.takes, **span(args))[0]
        found = ground(shown, model=model, phrase=args.phrase, stop=Stop(args.max_tokens))
        text = _told(found, name if len(names) > 1 else "")
        report(text, {"source": name, **asdict(found), "model": args.model}, as_json=args.json)
        if (path := target.get("plot")) is not None:
            draw(shown.data[0], found, path)
    return 0


def _told(found: Grounded, name: str) -> str:
    """The text, and a line for each box: left, top, right, bottom, and of what."""
    from mmworld.cli.console import shown

    lines = [f"{shown(name)}: {shown(found.text)}" if name else shown(found.text)]
    for entity in found.entities:
        lines += ["  ".join((*(f"{x:.3f}" for x in box), shown(entity.phrase))) for box in entity.boxes]
    return "\n".join(lines)
