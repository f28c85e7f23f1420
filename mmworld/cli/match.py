"""mmworld match: how well texts fit pictures, films or sounds."""

from __future__ import annotations

import argparse

from mmworld.cli.flags import SWITCH
from mmworld.cli.inputs import add_gate, expand, opened, settle_gate, span
from mmworld.cli.model import add_model, chosen
from mmworld.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld match`."""
    parser.add_argument("input", nargs="*", metavar="INPUT", help="files, folders, patterns, data: addresses")
    parser.add_argument("--text", action="append", default=[], metavar="TEXT", help="to compare with; repeatable")
    add_model(parser.add_argument_group("model"))
    parser.add_argument("--json", **SWITCH, help="an object for each input, one a line")
    add_gate(parser)


def run(args: argparse.Namespace) -> int:
    """Print a row for each input, of a share for each text; the best first where there is one text."""
    from mmworld.cli.console import report
    from mmworld.verbs.embed import match

    if not args.input or not args.text:
        raise UsageError("nothing to compare", hint='mmworld match a.jpg b.jpg --text "a dog" --model M')
    settle_gate(args)
    names = expand(args.input)
    media = [opened(name, args) for name in names]
    shares = match(*media, texts=args.text, model=chosen(args), **span(args)).tolist()
    rows = list(zip(names, shares, strict=True))
    if len(args.text) == 1:
        rows.sort(key=lambda row: -row[1][0])
    if args.json:
        for name, row in rows:
            report("", {"source": name, "shares": dict(zip(args.text, row, strict=True))}, as_json=True)
        return 0
    _show(args.text, rows)
    return 0


def _show(texts: list[str], rows: list[tuple[str, list[float]]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from mmworld.cli.console import shown

    columns = [Column(escape(shown(text)), justify="right") for text in texts]
    table = Table(Column("", overflow="fold"), *columns, box=None, pad_edge=False)
    for name, row in rows:
        marks = ("bold" if x == max(row) and len(row) > 1 else "none" for x in row)
        table.add_row(escape(shown(name)), *(f"[{mark}]{x:.3f}[/]" for mark, x in zip(marks, row, strict=True)))
    Console().print(table)
