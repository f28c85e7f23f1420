"""What is written while a stream is watched: files that grow, a picture at the end, and lines on standard output.

Each is an object with `add(event)` and `close()`; what draws is shown the chunks, too, by its `tap`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmworld.cli.console import say, shown
from mmworld.cli.formats import Origin, clock
from mmworld.cli.formats import live as live_line
from mmworld.cli.inputs import base
from mmworld.cli.journal import SUFFIXES, Journal, record
from mmworld.errors import UsageError
from mmworld.models.events import Answer, Count, Failure, Stall
from mmworld.models.provisional import Provisional
from mmworld.types import Caption, Chunk, Gap, Moment

LISTED = 500
"""Captions of a plot, the last ones."""


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot be written, before anything is opened."""
    if args.state and args.end is not None:
        raise UsageError("--end with --state: what has ended is not gone on with", hint="leave one out; Ctrl-C saves")
    if bad := [o for o in args.output if Path(o).suffix.removeprefix(".") not in SUFFIXES]:
        raise UsageError(f"-o {shown(bad[0])}: not one of .{', .'.join(SUFFIXES)}")
    if args.rerun and Path(args.rerun).suffix != ".rrd":
        raise UsageError(f"--rerun {shown(args.rerun)}: not .rrd, by which the viewer knows it")


def journals(args: argparse.Namespace, origin: Origin, live: Any, *, resumed: bool, waits: bool) -> list[Journal]:
    """The files of -o.

    Args:
        resumed: `live` goes on from a state.
        waits: its sources are where they were when the state was left.
    """
    made = []
    for path in map(Path, args.output):
        said = live.before.events if path.suffix == ".jsonl" else live.before.captions
        made.append(Journal(path, origin, (said if waits else math.inf) if resumed else None))
    return made


def pictured(args: argparse.Namespace, *, resumed: bool, waits: bool) -> list[Any]:
    """What is made of the chunks as well as of the events: a plot, a recording. The arguments are those of `journals`;
    what does not wait is not held up by the recording either."""
    title = shown(base(args.source))
    made: list[Any] = [Drawing(Path(args.plot), title)] if args.plot else []
    if args.rerun:
        from mmworld.models.recording import Recording, beside

        path, identity = beside(Path(args.rerun)) if resumed else (Path(args.rerun), None)
        drop = args.pressure == "drop" and (args.real_time or not waits)
        made.append(Recording(path, title=title, identity=identity, drop=drop))
    return made


def tap(pictures: Sequence[Any]) -> Callable[[Chunk], None] | None:
    """Shows every chunk to all of them; None if there is none."""

    def show(chunk: Chunk) -> None:
        for picture in pictures:
            picture.tap(chunk)

    return show if pictures else None


class Drawing:
    """A timeline and the last captions of it, drawn when the watching has ended or was stopped."""

    def __init__(self, path: Path, title: str) -> None:
        from mmworld.cli.timeline import Timeline

        self._path, self._title = path, title
        self._captions: deque[Caption] = deque(maxlen=LISTED)
        self._timeline = Timeline()
        self.tap = self._timeline.add

    def add(self, event: Any) -> None:
        """Take in an event; only captions are drawn."""
        if isinstance(event, Caption):
            self._captions.append(event)

    def close(self) -> None:
        """Draw, if anything was told."""
        if self._captions:
            from mmworld.cli.plot import draw

            draw(self._timeline, list(self._captions), self._path, title=self._title)


class Printed:
    """Standard output: a line for each event, `named` by its source, or an object of JSON."""

    def __init__(self, origin: Origin, before: Count, *, as_json: bool, named: bool = False) -> None:
        self._origin, self._count, self._json = origin, before, as_json
        self._name = f"{shown(base(origin.source), 20)}  " if named else ""

    def add(self, event: Any) -> None:
        """Print an event; what failed is said on stderr."""
        if self._json:
            print(json.dumps(record(event, self._count.events, self._origin)), flush=True)
        elif isinstance(event, Failure):
            say(str(event.error))
        elif not _told_elsewhere(event):
            print(self._name + _line(event, self._origin), flush=True)
        self._count = self._count.with_(event)


def _told_elsewhere(event: Any) -> bool:
    """Whether it was said when it came, or is counted, as it may come with every frame."""
    return isinstance(event, Stall) or (isinstance(event, Gap) and event.reason == "slow")


def _line(event: Any, origin: Origin) -> str:
    if isinstance(event, Caption):
        return live_line(0, event, origin).rstrip("\n")
    if isinstance(event, Gap):
        return f"[{clock(event.start)} --> {clock(event.end)}]  (no {event.modality}: {event.reason})"
    if isinstance(event, Provisional):
        told = event.caption
        return f"[{clock(told.start)} --> {clock(told.end)} …]  {told.text}"
    recalled = "".join(f"\n    {clock(m.start)}  {m.text}{_seen(event, m)}" for m in event.moments)
    return f"[{clock(event.time)}] {event.question} {event.text}{recalled}"


def _seen(event: Answer, moment: Moment) -> str:
    """What was answered from what is kept of a moment."""
    return f"  ({event.question} {moment.seen})" if moment.seen else ""
