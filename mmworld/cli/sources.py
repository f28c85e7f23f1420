"""What is watched: sources, each a stream of its own, or others beside the first on the same clock."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmworld.cli.console import shown
from mmworld.cli.inputs import is_address, opened
from mmworld.cli.targets import fill
from mmworld.errors import UsageError

FILES = ("state", "plot", "rerun")
"""Flags of files beside -o of which each source has one of its own."""
MODALITIES = ("video", "audio", "points", "sensor", "image")


def apart(args: argparse.Namespace) -> list[argparse.Namespace]:
    """The flags of each source, `source`, with its own files in the place of templates.

    Raises:
        UsageError: two of them would write one file, or cannot be told apart.
    """
    names = args.sources
    if len(names) > 1 and args.others:
        hint = "one source and those on its clock, or several without --with"
        raise UsageError(f"--with beside {len(names)} sources", hint=hint)
    if names.count("-") > 1:
        raise UsageError("- twice: there is one standard input")
    each = [_of(args, name, i) for i, name in enumerate(names)]
    owner: dict[str, str] = {}
    for one in each:
        for path in _written(one):
            if path in owner:
                hint = "a template: '{stem}.srt', '{index}-{name}.state'"
                raise UsageError(f"{shown(path)} would hold {shown(owner[path])} and {shown(one.source)}", hint=hint)
            owner[path] = one.source
    return each


def _of(args: argparse.Namespace, name: str, index: int) -> argparse.Namespace:
    one = copy.copy(args)
    one.source = name
    one.output = [fill(o, name, "jsonl", index) for o in args.output]
    for flag in FILES:
        template = getattr(args, flag)
        setattr(one, flag, None if template is None else fill(template, name, flag, index))
    return one


def _written(one: argparse.Namespace) -> Iterator[str]:
    yield from one.output
    yield from (path for flag in FILES if (path := getattr(one, flag)) is not None)


def others(args: argparse.Namespace) -> dict[str, Any]:
    """The sources of --with, by their senses."""
    found: dict[str, Any] = {}
    for text in args.others:
        name, equals, given = text.partition("=")
        if not equals or name not in MODALITIES:
            raise UsageError(f"--with {shown(text)}: give SENSE=SOURCE, of {', '.join(MODALITIES)}")
        if name in found:
            raise UsageError(f"--with {name}= twice", hint="one session has one source of each sense")
        found[name] = source(given, args)
    return found


def source(name: str, args: argparse.Namespace) -> Any:
    """A file, opened; what is live, or grows, by its name."""
    from mmworld.media.devices import is_device

    follow = args.follow and not is_address(name)
    return name if is_device(name) or Path(name).is_dir() or follow else opened(name, args)


def wait(args: argparse.Namespace) -> bool:
    """Whether the sources are still where they were when a process that was stopped goes on."""
    from mmworld.media.devices import is_device

    names = [args.source, *(text.partition("=")[2] for text in args.others)]
    return not any(name == "-" or is_device(name) for name in names)
