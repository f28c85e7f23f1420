"""mmworld classify: which labels fit pictures, films or sounds."""

from __future__ import annotations

import argparse

from mmworld.cli.flags import SWITCH, count
from mmworld.cli.inputs import add_gate, expand, opened, settle_gate, span
from mmworld.cli.model import add_model, chosen
from mmworld.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld classify`."""
    parser.add_argument("input", nargs="*", metavar="INPUT", help="files, folders, patterns, data: addresses")
    parser.add_argument("--labels", type=_labels, default=[], metavar="A,B", help="of a model without its own")
    parser.add_argument("--template", metavar="TEXT", help='the text that a label stands in ("a photo of a {}")')
    parser.add_argument("--top", type=count, default=5, metavar="N", help="labels shown of each input (5)")
    add_model(parser.add_argument_group("model"))
    parser.add_argument("--json", **SWITCH, help="an object for each input, one a line")
    add_gate(parser)


def run(args: argparse.Namespace) -> int:
    """Print the likeliest labels of each input."""
    from mmworld.cli.console import report, shown
    from mmworld.verbs.classify import classify

    if not args.input:
        raise UsageError("no INPUT", hint="a file, a folder or a pattern")
    settle_gate(args)
    model = chosen(args)
    for name in expand(args.input):
        media = opened(name, args)
        (found,) = classify(media, labels=args.labels, model=model, template=args.template, **span(args))
        best = dict(list(found.items())[: args.top])
        text = "\n".join(f"  {share:.3f}  {shown(label)}" for label, share in best.items())
        report(f"{shown(name)}\n{text}", {"source": name, "labels": best}, as_json=args.json)
    return 0


def _labels(text: str) -> list[str]:
    return [label.strip() for label in text.split(",") if label.strip()]
