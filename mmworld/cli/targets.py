"""Where captions go: standard output, a folder, or names made from a template."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from mmworld.cli.formats import FORMATS
from mmworld.cli.inputs import base
from mmworld.errors import UsageError

MAX_STEM = 200
"""Bytes: the longest stem that leaves room for an extension and .part in a 255-byte file name."""
PICTURES = (".png", ".svg", ".pdf")
FIELDS = ("stem", "ext", "name", "index")

Targets = dict[str, Path | None]
"""Format name to path; None is standard output. "live" is the format of a terminal."""


def plan(inputs: Sequence[str], formats: Sequence[str], output: str | None, plot: str | None = None) -> list[Targets]:
    """The targets of each input.

    Args:
        formats: as asked for, perhaps none.
        output: a folder, a file name, a template of {stem} {ext} {name} {index}, "-" or None for standard output.
        plot: a file name or template for pictures; it becomes the target "plot".

    Raises:
        UsageError: two outputs would have one name; a format that cannot be mixed on standard output; an unknown field.
    """
    if output is None and len(formats) > 1:
        output = "."
    if output in (None, "-"):
        planned = [_stdout(inputs, formats) for _ in inputs]
    else:
        planned = _files(inputs, formats, str(output))
    if plot is not None:
        if Path(plot).suffix.lower() not in PICTURES:
            raise UsageError(f"--plot {plot!r} names no picture", hint=f"one of {', '.join(PICTURES)}")
        for i, (name, targets) in enumerate(zip(inputs, planned, strict=True)):
            targets["plot"] = Path(fill(plot, name, "png", i))
    _check_distinct(inputs, planned)
    return planned


def existing(targets: Targets) -> list[Path]:
    """Those of the targets that are there already."""
    return [path for path in targets.values() if path is not None and os.path.lexists(path)]


def fill(template: str, name: str, ext: str, index: int) -> str:
    """A name made from a template, for the input `name`; UsageError if a field of it is unknown."""
    file = base(name)
    values = {"stem": _stem(file), "ext": ext, "name": _stem(file, whole=True), "index": str(index)}

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise UsageError(f"{{{match[1]}}} in {template!r}", hint=f"known: {', '.join(FIELDS)}")
        return values[match[1]]

    return re.sub(r"\{(\w*)\}", value, template)


def _files(inputs: Sequence[str], formats: Sequence[str], output: str) -> list[Targets]:
    suffix = Path(output).suffix[1:]
    if not formats:
        formats = [suffix if suffix in FORMATS else "txt"]
    if "{" not in output and (suffix not in FORMATS or os.path.isdir(output)):
        output = os.path.join(output, "{stem}.{ext}")
    return [{f: Path(fill(output, name, f, i)) for f in formats} for i, name in enumerate(inputs)]


def _stdout(inputs: Sequence[str], formats: Sequence[str]) -> Targets:
    if len(formats) > 1:
        raise UsageError("one format fits on standard output", hint="-o DIR writes a file for each")
    name = formats[0] if formats else "live"
    if len(inputs) > 1 and name in ("srt", "vtt", "tsv"):
        raise UsageError(f"{name} of {len(inputs)} inputs cannot share standard output", hint="-o DIR, or -f jsonl")
    return {name: None}


def _stem(file: str, *, whole: bool = False) -> str:
    stem = file if whole else os.path.splitext(file)[0]
    return os.fsdecode(os.fsencode(stem)[:MAX_STEM])


def _check_distinct(inputs: Sequence[str], planned: Sequence[Targets]) -> None:
    owner: dict[Path, str] = {}
    for name, targets in zip(inputs, planned, strict=True):
        for path in filter(None, targets.values()):
            if path in owner:
                both = f"{owner[path]} and {name}" if owner[path] != name else f"{name} twice"
                raise UsageError(f"{path} would hold {both}", hint="-o 'DIR/{name}.{ext}' or '{index}-{stem}.{ext}'")
            owner[path] = name
