"""mmworld watch: what is to be told of a stream, for as long as it lasts; stopped at any time, it can go on later."""

from __future__ import annotations

import argparse
import json
import math
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mmworld.cli.caption import OneOf, add_speech
from mmworld.cli.console import say, shown
from mmworld.cli.flags import SWITCH, positive
from mmworld.cli.formats import Origin, clock
from mmworld.cli.formats import live as live_line
from mmworld.cli.inputs import add_gate, base, is_address, opened, settle_gate, span
from mmworld.cli.journal import SUFFIXES, Journal, record
from mmworld.cli.view import view
from mmworld.errors import UsageError
from mmworld.models.events import Answer, Failure
from mmworld.models.provisional import Provisional
from mmworld.types import Caption, Gap, Moment

LISTED = 500
"""Captions of a plot, the last ones."""
MODALITIES = ("video", "audio", "points", "sensor", "image")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld watch`."""
    there = "file, folder, - for stdin, /dev/video0, mic:, mic:NAME, screen:, rtsp://…, rtmp://…, https://….m3u8"
    parser.add_argument("source", metavar="SOURCE", help=there)
    joined = "another source on the same clock: sensor=log.csv; repeatable"
    parser.add_argument("--with", dest="others", action="append", default=[], metavar="SENSE=SOURCE", help=joined)
    when = add_speech(parser)
    when.add_argument("--on-demand", nargs=0, default=False, action=OneOf, help="only where asked")
    so_far = "every S seconds tell what would be said by now; not in srt, vtt, txt and tsv"
    when.add_argument("--provisional", type=positive, metavar="S", help=so_far)
    group = parser.add_argument_group("how it watches")
    group.add_argument("--real-time", **SWITCH, help="play files no faster than they were recorded")
    group.add_argument(
        "--pressure",
        choices=("drop", "block"),
        default="drop",
        help="where the model is slower than a live source: leave out the oldest frames, or have it wait (drop)",
    )
    group.add_argument("--patience", type=positive, default=2.0, metavar="S", help="wait for a stream that lags (2)")
    followed = "wait for what is added to a file, or appears in a folder, until it is removed"
    group.add_argument("--follow", **SWITCH, help=followed)
    group.add_argument("--keep", type=positive, metavar="S", help="remember the last S seconds across captions")
    group.add_argument("--fps", type=positive, metavar="N", help="frames a second that the model sees")
    group.add_argument("--ask", metavar="FILE", help="questions, one a line, asked as they come; - for stdin")
    written = parser.add_argument_group("what is written")
    written.add_argument("-o", "--output", action="append", default=[], metavar="FILE", help=f"{', '.join(SUFFIXES)}")
    written.add_argument(
        "--state", metavar="FILE", help="saved at times and when stopped; if it is there, go on from it"
    )
    written.add_argument(
        "--memory", metavar="FILE", help="keeps what was told, to be found when asked; see mmworld find"
    )
    written.add_argument("--plot", metavar="FILE", help="draw a timeline at the end (png, svg, pdf)")
    written.add_argument("--save-every", type=positive, default=60.0, metavar="S", help="seconds between saves (60)")
    written.add_argument("--progress", choices=("auto", "json", "none"), default="auto", help="on stderr")
    written.add_argument("--json", **SWITCH, help="an object for each event on standard output")
    allowed = "rtsp:, rtmp: and https:….m3u8 streams may come from HOST[:PORT]; repeatable"
    add_gate(parser).add_argument("--allow-host", action="append", default=[], metavar="HOST", help=allowed)


def run(args: argparse.Namespace) -> int:
    """Watch until the sources end; 0, or 3 if one of them failed."""
    settle_gate(args)
    if args.state and args.end is not None:
        raise UsageError("--end with --state: what has ended is not gone on with", hint="leave one out; Ctrl-C saves")
    outputs = [Path(o) for o in args.output]
    if bad := [o for o in outputs if o.suffix.removeprefix(".") not in SUFFIXES]:
        raise UsageError(f"-o {shown(str(bad[0]))}: not one of .{', .'.join(SUFFIXES)}")
    resume = Path(args.state) if args.state and Path(args.state).exists() else None
    faults = 0
    source, others = _source(args.source, args), _others(args)
    with ExitStack() as scope:
        drawing = scope.enter_context(_drawn(args))
        live, origin = _live(args, source, others, resume, drawing.tap)
        scope.enter_context(live)
        journals = [_journal(path, origin, live, resume, _waits(args)) for path in outputs]
        for journal in journals:
            scope.callback(journal.close)
        scope.enter_context(view(live, args.progress))
        scope.enter_context(_kept(live, args))
        if args.ask:
            threading.Thread(target=_ask, args=(live, args.ask), daemon=True, name="ask").start()
        count = live.before
        for event in live:
            for journal in journals:
                journal.add(event)
            drawing.add(event)
            _print(event, count.events, origin, args.json)
            count = count.with_(event)
            faults += isinstance(event, Failure)
    for media in (source, *others.values()):
        for warning in getattr(media, "warnings", ()):
            say(f"{media.name}: {warning}")
    return 3 if faults else 0


class _Drawing:
    """A timeline and the last captions of it, to be drawn; nothing where none is wanted."""

    def __init__(self, path: str | None) -> None:
        self.captions: deque[Any] = deque(maxlen=LISTED)
        self.tap = None
        if path:
            from mmworld.cli.timeline import Timeline

            self.timeline = Timeline()
            self.tap = self.timeline.add

    def add(self, event: Any) -> None:
        if self.tap and isinstance(event, Caption):
            self.captions.append(event)


@contextmanager
def _drawn(args: argparse.Namespace) -> Iterator[_Drawing]:
    """Draw what was watched, when it has ended or was stopped."""
    drawing = _Drawing(args.plot)
    try:
        yield drawing
    finally:
        if args.plot and drawing.captions:
            from mmworld.cli.plot import draw

            draw(drawing.timeline, list(drawing.captions), Path(args.plot), title=shown(base(args.source)))


def _live(
    args: argparse.Namespace, source: Any, others: dict[str, Any], resume: Path | None, tap: Any
) -> tuple[Any, Any]:
    import torch

    from mmworld.cli.model import chosen
    from mmworld.cli.work import policy
    from mmworld.models.keep import Keep
    from mmworld.models.zoo import find
    from mmworld.verbs.watch import watch
    from mmworld.weights.shards import revision

    torch.manual_seed(args.seed)
    origin = Origin(args.source, args.model, revision(find(args.model)), args.seed)
    how = {"policy": policy(args), "prompt": args.prompt, "real_time": args.real_time, "pressure": args.pressure}
    how |= {"keep": Keep(args.keep) if args.keep else None}
    how |= {"provisional": args.provisional or math.inf}
    how |= {"allow_hosts": [] if args.offline else args.allow_host, "follow": args.follow}
    how |= {"patience": args.patience, "fps": args.fps, "memory": args.memory, **span(args)}
    return watch(source, model=chosen(args), resume=resume, tap=tap, **others, **how), origin


def _others(args: argparse.Namespace) -> dict[str, Any]:
    """The sources beside the first, by their senses."""
    others: dict[str, Any] = {}
    for text in args.others:
        name, equals, source = text.partition("=")
        if not equals or name not in MODALITIES:
            raise UsageError(f"--with {shown(text)}: give SENSE=SOURCE, of {', '.join(MODALITIES)}")
        if name in others:
            raise UsageError(f"--with {name}= twice", hint="one session has one source of each sense")
        others[name] = _source(source, args)
    return others


def _source(name: str, args: argparse.Namespace) -> Any:
    from mmworld.media.devices import is_device

    follow = args.follow and not is_address(name)
    return name if is_device(name) or Path(name).is_dir() or follow else opened(name, args)


def _waits(args: argparse.Namespace) -> bool:
    """Whether the sources are still where they were when a process that was stopped goes on."""
    from mmworld.media.devices import is_device

    names = [args.source, *(text.partition("=")[2] for text in args.others)]
    return not any(name == "-" or is_device(name) for name in names)


def _journal(path: Path, origin: Any, live: Any, resume: Path | None, waits: bool) -> Journal:
    if resume is None:
        return Journal(path, origin)
    said = live.before.events if path.suffix == ".jsonl" else live.before.captions
    return Journal(path, origin, said if waits else math.inf)


@contextmanager
def _kept(live: Any, args: argparse.Namespace) -> Iterator[None]:
    """Save the state at times, at the end, and when the process is told to stop."""
    if not args.state:
        yield
        return
    done = threading.Event()

    def save() -> None:
        while not done.wait(args.save_every):
            live.save(args.state).result()

    thread = threading.Thread(target=save, daemon=True, name="save")
    thread.start()
    try:
        yield
        live.save(args.state).result()
    except KeyboardInterrupt:
        live.save(args.state).result(timeout=0.5)
        raise
    finally:
        done.set()


def _ask(live: Any, path: str) -> None:
    with open(0 if path == "-" else path, encoding="utf-8", errors="replace", closefd=path != "-") as lines:
        for line in lines:
            if line.strip():
                live.ask(line.strip()).add_done_callback(_refused)


def _refused(future: Any) -> None:
    """Say why a question has no answer: the model may not take any."""
    if not future.cancelled() and (error := future.exception()) is not None:
        say(str(error))


def _print(event: Any, i: int, origin: Origin, as_json: bool) -> None:
    if as_json:
        print(json.dumps(record(event, i, origin)), flush=True)
    elif isinstance(event, Failure):
        say(str(event.error))
    else:
        print(_line(event, origin), flush=True)


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
