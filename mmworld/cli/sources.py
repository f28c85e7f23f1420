"""What is watched: the first source, and others beside it on the same clock."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmworld.cli.console import shown
from mmworld.cli.inputs import is_address, opened
from mmworld.errors import UsageError

MODALITIES = ("video", "audio", "points", "sensor", "image")


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
