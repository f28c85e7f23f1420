"""mmworld watch: what is to be told of a stream, for as long as it lasts; stopped at any time, it can go on later."""

from __future__ import annotations

import argparse
import functools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from mmworld.cli import outputs, sources, view
from mmworld.cli.caption import OneOf, add_speech
from mmworld.cli.console import say
from mmworld.cli.flags import SWITCH, positive, similarity
from mmworld.cli.formats import Origin
from mmworld.cli.inputs import add_gate, settle_gate, span
from mmworld.cli.journal import SUFFIXES
from mmworld.models.events import STALL, Failure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld watch`."""
    there = (
        "file, folder, - for stdin, /dev/video0, mic:, mic:NAME, screen:, rtsp://…, rtmp://…, ws://…, https://….m3u8"
    )
    each = f"{there}; several are watched side by side, each a stream of its own"
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=each)
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
        choices=("drop", "thin", "block"),
        default="drop",
        help="where the model is slower than a live source: leave out the oldest frames, every second, fourth, … of "
        "those that come, or have it wait (drop)",
    )
    group.add_argument("--patience", type=positive, default=2.0, metavar="S", help="wait for a stream that lags (2)")
    hangs = f"name what made no progress for S seconds, and where ({STALL:g})"
    group.add_argument("--stall", type=positive, default=STALL, metavar="S", help=hangs)
    followed = "wait for what is added to a file, or appears in a folder, until it is removed"
    group.add_argument("--follow", **SWITCH, help=followed)
    group.add_argument("--keep", type=positive, metavar="S", help="remember the last S seconds across captions")
    alike = "leave out tokens of film whose cosine with the last one kept in their place is over X (0.97 costs little)"
    group.add_argument("--economy", type=similarity, metavar="X", help=alike)
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
    recorded = "frames, wave, points and what was told, for the rerun viewer (.rrd)"
    written.add_argument("--rerun", metavar="FILE", help=recorded)
    written.add_argument("--save-every", type=positive, default=60.0, metavar="S", help="seconds between saves (60)")
    written.add_argument("--progress", choices=("auto", "json", "none"), default="auto", help="on stderr")
    written.add_argument("--json", **SWITCH, help="an object for each event on standard output")
    allowed = "rtsp:, rtmp:, ws: and https:….m3u8 streams may come from HOST[:PORT]; repeatable"
    add_gate(parser).add_argument("--allow-host", action="append", default=[], metavar="HOST", help=allowed)


def run(args: argparse.Namespace) -> int:
    """Watch until the sources end; 0, or 3 if one of them failed."""
    from mmworld.cli.model import chosen
    from mmworld.models.crowd import Crowd

    settle_gate(args)
    each = sources.apart(args)
    for one in each:
        outputs.check(one)
    model, faults = functools.cache(lambda: chosen(args)), 0  # a source that is refused is so before it is loaded
    with ExitStack() as scope:
        watched = [scope.enter_context(closing(Watched(one, model, alone=len(each) == 1))) for one in each]
        crowd = scope.enter_context(Crowd([w.live for w in watched]))
        scope.enter_context(view.view(crowd, args.progress))
        for w in watched:
            scope.enter_context(_kept(w.live, w.args))
        if args.ask:
            threading.Thread(target=_ask, args=(crowd, args.ask), daemon=True, name="ask").start()
        by_live = {w.live: w for w in watched}
        for live, event in crowd:
            by_live[live].add(event)
            faults += isinstance(event, Failure)
    for warning in (warning for w in watched for warning in w.warnings):
        say(warning)
    for spared in view.spared(crowd.tokens):
        say(f"tokens of {spared}")
    return 3 if faults else 0


class Watched:
    """A stream that is watched, and what is written of it; `alone` if there is no other."""

    def __init__(self, args: argparse.Namespace, model: Callable[[], Any], *, alone: bool) -> None:
        self.args = args
        resume = Path(args.state) if args.state and Path(args.state).exists() else None
        gone_on = {"resumed": resume is not None, "waits": sources.wait(args)}
        with ExitStack() as scope:
            source, others = sources.source(args.source, args), sources.others(args)
            pictures = [scope.enter_context(closing(p)) for p in outputs.pictured(args, **gone_on)]
            self.live, origin = _live(args, model(), source, others, resume, outputs.tap(pictures))
            scope.enter_context(self.live)
            journals = outputs.journals(args, origin, self.live, **gone_on)
            for journal in journals:
                scope.enter_context(closing(journal))
            printed = outputs.Printed(origin, self.live.before, as_json=args.json, named=not alone)
            self._told = [*journals, *pictures, printed]
            self._said = [source, *others.values(), *pictures]
            self._scope = scope.pop_all()

    @property
    def warnings(self) -> list[str]:
        """What there was to say of its sources and its files."""
        return [f"{one.name}: {warning}" for one in self._said for warning in getattr(one, "warnings", ())]

    def add(self, event: Any) -> None:
        """Write an event everywhere."""
        for output in self._told:
            output.add(event)

    def close(self) -> None:
        self._scope.close()


def _live(
    args: argparse.Namespace, model: Any, source: Any, others: dict[str, Any], resume: Path | None, tap: Any
) -> tuple[Any, Origin]:
    import torch

    from mmworld.cli.work import policy
    from mmworld.models.keep import Keep
    from mmworld.models.zoo import find
    from mmworld.stream.economy import Economy
    from mmworld.verbs.watch import watch
    from mmworld.weights.shards import revision

    torch.manual_seed(args.seed)
    origin = Origin(args.source, args.model, revision(find(args.model)), args.seed)
    how = {"policy": policy(args), "prompt": args.prompt, "real_time": args.real_time, "pressure": args.pressure}
    how |= {"keep": Keep(args.keep) if args.keep else None}
    how |= {"economy": {"video": Economy(args.economy)} if args.economy else None}
    how |= {"provisional": args.provisional or math.inf}
    how |= {"allow_hosts": [] if args.offline else args.allow_host, "follow": args.follow}
    how |= {"stall": args.stall, "alarm": lambda stall: say(str(stall))}
    how |= {"patience": args.patience, "fps": args.fps, "memory": args.memory, **span(args)}
    return watch(source, model=model, resume=resume, tap=tap, **others, **how), origin


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


def _ask(crowd: Any, path: str) -> None:
    with open(0 if path == "-" else path, encoding="utf-8", errors="replace", closefd=path != "-") as lines:
        for line in lines:
            if line.strip():
                for future in crowd.ask(line.strip()):
                    future.add_done_callback(_refused)


def _refused(future: Any) -> None:
    """Say why a question has no answer: the model may not take any."""
    if not future.cancelled() and (error := future.exception()) is not None:
        say(str(error))
