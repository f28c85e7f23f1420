"""mmworld caption: text appears while the input is still being read."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from mmworld.cli import targets
from mmworld.cli.flags import SWITCH, positive
from mmworld.cli.formats import FORMATS
from mmworld.cli.inputs import add_gate, expand, settle_gate
from mmworld.cli.model import add_model, require
from mmworld.errors import UsageError


class OneOf(argparse.Action):
    """One of the ways to speak: the last one given holds."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.every = namespace.at_silence = None
        namespace.on_change = namespace.at_end = namespace.on_demand = namespace.as_trained = False
        setattr(namespace, self.dest, True if self.nargs == 0 else values)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld caption`."""
    parser.add_argument("input", nargs="*", metavar="INPUT", help="file, folder, pattern, data: address, - for stdin")
    add_speech(parser)
    add_reading(parser)
    add_writing(parser)


def add_speech(parser: argparse.ArgumentParser) -> Any:
    """The flags that say when to speak, which are a group that may have more, and with what model."""
    when = parser.add_argument_group("when to speak")
    when.add_argument("--every", type=positive, metavar="S", action=OneOf, help="a caption every S seconds (default 5)")
    when.add_argument("--on-change", nargs=0, default=False, action=OneOf, help="when what is seen or heard changes")
    silence = "when nobody speaks any more, by Silero's voice activity detector in this ONNX file"
    when.add_argument("--at-silence", metavar="FILE", action=OneOf, help=silence)
    when.add_argument("--as-trained", nargs=0, default=False, action=OneOf, help="when the model's own head says so")
    when.add_argument("--at-end", nargs=0, default=False, action=OneOf, help="once, of the whole input")
    model = parser.add_argument_group("model")
    add_model(model, "nano")
    model.add_argument("--prompt", default="", metavar="TEXT", help="how each caption begins")
    model.add_argument("--seed", type=int, default=0, metavar="N", help="recorded, and set before the first input")
    return when


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The flags of what is read of a stream."""
    group = add_gate(parser)
    group.add_argument("--fps", type=positive, metavar="N", help="frames a second that the model sees")
    group.add_argument("--sweeps", **SWITCH, help="take a folder of clouds as one stream of sweeps")


def add_writing(parser: argparse.ArgumentParser) -> None:
    """The flags of what is written."""
    group = parser.add_argument_group("what is written")
    group.add_argument("-f", "--output-format", type=_formats, metavar="F", help=f"of {', '.join(FORMATS)}, all")
    group.add_argument("-o", "--output-dir", metavar="DIR", help="a folder, a file, or a template: {stem}.{ext}")
    group.add_argument("--plot", metavar="FILE", help="draw a timeline (png, svg, pdf); {stem} for several inputs")
    group.add_argument("--overwrite", **SWITCH, help="replace outputs that are there")
    group.add_argument("--skip-existing", **SWITCH, help="leave out inputs whose outputs are there")
    group.add_argument("--json", **SWITCH, help="the same as -f json")
    group.add_argument("--progress", choices=("auto", "json", "none"), default="auto", help="on stderr")


def run(args: argparse.Namespace) -> int:
    """Caption every input; 0, 3 if some failed or were salvaged, 4 if all failed."""
    from mmworld.cli.work import captioner

    return written(args, captioner, whole_folders=args.sweeps)


def written(args: argparse.Namespace, make: Callable[[Any, argparse.Namespace], Any], *, whole_folders: bool) -> int:
    """Write what `make` says of every input, see `Work`; 0, 3 if some failed or were salvaged, 4 if all failed."""
    from mmworld.cli.work import Work

    if not args.input:
        raise UsageError("no INPUT", hint="a file, a folder, a pattern, or - for standard input")
    settle_gate(args)
    require(args)
    inputs = expand(args.input, whole_folders=whole_folders)
    planned = _planned(args, inputs)
    return verdict(Work(args, several=len(inputs) > 1, make=make).caption(planned))


def verdict(whole: Sequence[bool | None]) -> int:
    """The exit code of inputs that were captioned whole (True), in part (False) or not at all (None)."""
    if all(whole):
        return 0
    return 4 if all(w is None for w in whole) else 3


def _planned(args: argparse.Namespace, inputs: Sequence[str]) -> list[tuple[str, targets.Targets]]:
    """Inputs and their targets, "plot" among these; without those that are done.

    Raises:
        UsageError: an output is there, and neither --overwrite nor --skip-existing says what then.
    """
    formats = ["json"] if args.json else args.output_format or []
    planned = targets.plan(inputs, formats, args.output_dir, args.plot)
    if args.overwrite:
        return list(zip(inputs, planned, strict=True))
    left = []
    for name, where in zip(inputs, planned, strict=True):
        there = targets.existing(where)
        if there and not args.skip_existing:
            raise UsageError(f"{there[0]} exists", hint="--overwrite replaces it, --skip-existing leaves it")
        if missing := {kind: path for kind, path in where.items() if path not in there}:
            left.append((name, missing))
    return left


def _formats(text: str) -> list[str]:
    names = list(FORMATS) if text == "all" else [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in FORMATS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(FORMATS)}, all")
    return list(dict.fromkeys(names))
