"""How many times the throughput of 8 streams one by one have 8 streams side by side, through one model?

    python benchmarks/stream_many.py [--streams 8] [--seconds 5] [--keep 10] [--rounds 7] [--minutes 0.5] [--json FILE]

Each stream is 2 pictures and 16 kHz sound a second. They come in chunks of 0.25 s, as the readers of a live source
bring them, a frame a chunk (at the 4 a second that the model takes, so each picture twice) and sound in pieces shorter
than a block; or in chunks of 0.5 s, of which one by one is better off, as more is done in each of its calls.
Remembered is what came since the last caption, one every 5 s, as `mmworld watch` does it; or, as with --keep, the last
10 s. Both ways take the same chunks from the same state, in turn, so that a busy machine is busy for both; medians of
the CPU time of the one thread it takes.

Where a pass costs a + b * n for n streams, a is what the calls cost by themselves and b what each stream has to compute
and to move. Told is which part of a stream's time alone is b: its inverse is what no number of streams can pass.

And the same streams as `mmworld watch` has them: each with threads of its own, which perceive and speak when they can,
through one model or through a model each; or one stream after the other; CPU time of the whole process for so many
--minutes of each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from figures import write

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from mmworld.models import together
from mmworld.models.captioner import Captioner
from mmworld.models.crowd import Crowd
from mmworld.models.keep import Keep
from mmworld.models.live import Live
from mmworld.models.load import load
from mmworld.models.opening import Opened
from mmworld.models.session import Session
from mmworld.stream.policy import Every
from mmworld.types import Chunk

STEPS = 0.25, 0.5
"""Seconds of a chunk."""
CAPTION = 5.0
"""Seconds between captions, after which all is forgotten unless some is kept."""
RATE, FPS = 16_000, 4


def chunks(stream: int, at: int, step: float) -> list[Chunk]:
    """What step `at` of a stream brings: frames, and sound."""
    random = torch.Generator().manual_seed(1000 * stream + int(at * step * 2))
    picture = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8, generator=random)
    sound = 0.1 * torch.randn(round(RATE * step), 1, generator=random)
    start, end = step * at, step * (at + 1)
    frames = picture.expand(round(FPS * step), -1, -1, -1)
    return [Chunk(frames, start, end, "video"), Chunk(sound, start, end, "audio")]


def one_by_one(sessions: list[Session], coming: list[list[Chunk]]) -> None:
    for session, mine in zip(sessions, coming, strict=True):
        for chunk in mine:
            session.append(chunk)


def side_by_side(sessions: list[Session], coming: list[list[Chunk]]) -> None:
    refused = together.append([(s, c) for s, mine in zip(sessions, coming, strict=True) for c in mine])
    assert not refused


Way = Callable[[list[Session], list[list[Chunk]]], None]
WAYS: dict[str, Way] = {"one by one": one_by_one, "side by side": side_by_side}


def measure(streams: int, seconds: float, keep: Keep | None, rounds: int, step: float) -> dict[str, Any]:
    """Seconds of streams that each way takes in a second, and what follows of them."""
    model = load("nano")
    sessions = [Session(model, modalities=["video", "audio"], keep=keep) for _ in range(streams)]
    warm = round((keep.seconds if keep else CAPTION) / step) + 8  # until each remembers as much as it ever will
    for at in range(warm):
        side_by_side(sessions, [chunks(n, at, step) for n in range(streams)])
    ahead = [[chunks(n, warm + at, step) for n in range(streams)] for at in range(round(seconds / step))]
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        ends = []
        for name, way in WAYS.items():
            ends.append([s.fork() for s in sessions])
            begun = time.thread_time()
            for at, coming in enumerate(ahead):
                if keep is None and at % round(CAPTION / step) == 0:
                    for session in ends[-1]:
                        session.clear()
                way(ends[-1], coming)
            taken[name].append(time.thread_time() - begun)
        check(*ends)
    alone, abreast = (statistics.median(times) for times in taken.values())
    own = (abreast - alone / streams) / (streams - 1)
    found = {name: round(streams * seconds / statistics.median(times), 1) for name, times in taken.items()}
    return found | {"ratio": round(alone / abreast, 2), "own_share": round(own * streams / alone, 3)}


def check(alone: list[Session], abreast: list[Session]) -> None:
    """Both ways remember the same; SystemExit if not."""
    for a, b in zip(alone, abreast, strict=True):
        pairs = zip((*a.context.keys, *a.context.values), (*b.context.keys, *b.context.values), strict=True)
        off = max(float((x.x - y.x).abs().max() / y.x.abs().max()) for x, y in pairs)
        if a.context.blocks != b.context.blocks or off > 1e-4:
            raise SystemExit(f"side by side is not the same as one by one: off by {off:.1e}")


def watched(models: list[Any], ahead: list[list[Chunk]]) -> float:
    """CPU seconds in which streams are watched and told of, all at once, each through its model."""
    begun = time.process_time()
    sources = [Opened(str(n), ("video", "audio"), iter(chunks), live=True) for n, chunks in enumerate(ahead)]
    tellers = [Captioner(model, Every(CAPTION)) for model in models]
    with Crowd([Live(t, [s], pressure="block") for t, s in zip(tellers, sources, strict=True)]) as crowd:
        said = sum(1 for _ in crowd)
    assert said >= len(sources)
    return time.process_time() - begun


def live(streams: int, seconds: float, rounds: int, step: float) -> dict[str, Any]:
    """Seconds of streams a CPU second: one stream after the other, all through a model each, all through one."""
    ahead = [[c for at in range(round(seconds / step)) for c in chunks(n, at, step)] for n in range(streams)]
    models = [load("nano") for _ in range(streams)]
    ways = {
        "one after the other": lambda: sum(watched(models[:1], [one]) for one in ahead),
        "a model each": lambda: watched(models, ahead),
        "one model": lambda: watched(models[:1] * streams, ahead),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(rounds + 1):
        for name, way in ways.items():
            cost = way()
            if i:  # the first warms up
                taken[name].append(cost)
    found = {name: round(streams * seconds / statistics.median(costs), 1) for name, costs in taken.items()}
    others = list(found)[:2]
    return {"chunk_seconds": step, **found, "ratios": [round(found["one model"] / found[n], 2) for n in others]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"streams": 8, "seconds": 5.0, "keep": 10.0, "rounds": 7, "minutes": 0.5}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    args = parser.parse_args()
    keeps = {"since the last caption": None, f"the last {args.keep:g} s": Keep(args.keep)}
    rows = []
    for (what, keep), step in product(keeps.items(), STEPS):
        found = measure(args.streams, args.seconds, keep, args.rounds, step)
        rows.append({"remembered": what, "chunk_seconds": step} | found)
        ways = ", ".join(f"{name} {found[name]}" for name in WAYS)
        bound = (
            f"{100 * found['own_share']:.0f}% of a stream's time is its own, so at most {1 / found['own_share']:.1f}"
        )
        print(f"{what}, chunks of {step} s: {ways} s a second: ratio {found['ratio']} (goal 3); {bound}")
    crowds = [live(args.streams, 60 * args.minutes, args.rounds, step) for step in STEPS]
    for found in crowds:
        print(f"as live streams, chunks of {found['chunk_seconds']} s: {found}")
    if args.json:
        sizes = {"streams": args.streams, "seconds": args.seconds, "rounds": args.rounds}
        write(args.json, threads=torch.get_num_threads(), **sizes, rows=rows, live=crowds)


if __name__ == "__main__":
    main()
