"""What INPUT... names: files, folders, patterns, addresses and standard input."""

from __future__ import annotations

import argparse
import glob
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mmworld.cli.flags import SWITCH, count, seconds
from mmworld.errors import UsageError
from mmworld.media.order import natural

if TYPE_CHECKING:
    from mmworld.media.gate import Media

VIDEO = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".ts",
    ".mts",
    ".mpg",
    ".mpeg",
    ".flv",
    ".3gp",
    ".ogv",
    ".wmv",
)
AUDIO = (".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".oga", ".opus", ".wma", ".aif", ".aiff")
IMAGE = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
POINTS = (".ply", ".pcd", ".xyz", ".off", ".obj", ".bin", ".npz")
SENSOR = (".csv", ".tsv", ".npy", ".jsonl", ".ndjson")
LIMITS = ("pixels", "frames", "seconds", "bytes", "points", "channels")
"""The limits of the media gate that have a flag: --limit-pixels and so on."""
SUFFIXES = frozenset(VIDEO + AUDIO + IMAGE + POINTS + SENSOR)
"""What is taken from a folder; a file that is named is taken whatever it is called."""


def expand(names: Iterable[str], *, whole_folders: bool = False) -> list[str]:
    """The inputs in order: a file of that very name, else a folder's files, else a pattern's, else the name as it is.
    One that is named twice is taken once.

    Args:
        whole_folders: a folder is one input.
    """
    return list(dict.fromkeys(found for name in names for found in _expand(name, whole_folders)))


def is_address(name: str) -> bool:
    """Whether `name` is "-", a data: URI or has a scheme, rather than naming a file."""
    return name == "-" or name.startswith("data:") or "://" in name


def base(name: str) -> str:
    """The file name of an input, whatever it is."""
    if name == "-":
        return "stdin"
    if name.startswith("data:"):
        return "data"
    path = name.partition("://")[2].partition("?")[0] if "://" in name else name
    return os.path.basename(path.rstrip("/")) or "input"


def _expand(name: str, whole_folders: bool) -> Iterator[str]:
    folder = os.path.isdir(name)
    if is_address(name) or (os.path.lexists(name) and (whole_folders or not folder)):
        yield name
    elif folder:
        files = [entry.path for entry in os.scandir(name) if _is_media(entry)]
        yield from sorted(files, key=natural) or [name]
    else:
        found = glob.glob(name, recursive=True) if glob.has_magic(name) else []
        files = sorted((f for f in found if not os.path.isdir(f)), key=natural)
        yield from files or [name]


def _is_media(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.name.startswith(".") and entry.is_file()


def add_gate(parser: argparse.ArgumentParser) -> Any:
    """The flags of what is read, and within what limits."""
    group = parser.add_argument_group("what is read")
    group.add_argument("--start", type=seconds, metavar="TIME", help="begin here: seconds or HH:MM:SS.mmm")
    group.add_argument("--end", type=seconds, metavar="TIME", help="stop here")
    group.add_argument("--input-format", metavar="F", help="raw sound without a header: s16le:16000:1")
    group.add_argument("--allow-url", **SWITCH, help="fetch https: inputs")
    group.add_argument("--offline", **SWITCH, help="open no socket")
    for name in LIMITS:
        group.add_argument(f"--limit-{name}", type=count, metavar="N", help=f"refuse an input of more {name}")
    return group


def settle_gate(args: argparse.Namespace) -> None:
    """Keep what --offline says, before anything is opened; UsageError if --end is not after --start."""
    check_span(args)
    if args.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
        args.allow_url = False


def check_span(args: argparse.Namespace) -> None:
    """UsageError if --end is not after --start."""
    if args.end is not None and args.end <= (args.start or 0.0):
        raise UsageError(f"--end {args.end:g} is not after --start {args.start or 0:g}")


def span(args: argparse.Namespace) -> dict[str, Any]:
    """What --start and --end say, as the verbs take it."""
    return {"start": args.start or 0.0, "end": args.end}


def opened(name: str, args: argparse.Namespace) -> Media:
    """The input `name` ("-" is standard input) through the gate, within the limits that the flags set.

    Raises:
        MediaError: the gate refuses it.
    """
    from mmworld.media.budget import Budget
    from mmworld.media.gate import open_media

    limits = {k: v for k in LIMITS if (v := getattr(args, f"limit_{k}")) is not None}
    source: Any = sys.stdin.buffer if name == "-" else name
    return open_media(source, allow_url=args.allow_url, budget=Budget(**limits), input_format=args.input_format)
