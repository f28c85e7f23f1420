"""mmworld eval: a model's scores on held-out data, as a table."""

from __future__ import annotations

import argparse

from mmworld.cli.caption import SWITCH
from mmworld.cli.flags import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld eval`."""
    parser.add_argument("model", nargs="?", default="nano", metavar="M", help="a name or a folder (nano)")
    parser.add_argument("--json", **SWITCH, help="print a JSON document")
    parser.add_argument("--threads", type=count, metavar="N", help="CPU threads")


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    raise NotImplementedError
