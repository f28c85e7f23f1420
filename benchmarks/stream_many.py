"""How many times the throughput of 8 streams one by one have 8 streams side by side, through one model?

    python benchmarks/stream_many.py [--streams 8] [--seconds 6] [--keep 10] [--rounds 5] [--json FILE]

Each stream is 2 pictures and 16 kHz sound a second, as a live source brings them: a chunk of each every half second.
Both ways take the same chunks from the same state, in turn, so that a busy machine is busy for both; medians of the
wall time, on all cores. Beside the ratio: what the calls cost by themselves, as the share of the time of one stream
that stays where the same pass has only one token or block more to compute.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from mmworld.models import together
from mmworld.models.load import load
from mmworld.models.session import Keep, Session
from mmworld.types import Chunk

HALF = 0.5
RATE = 16_000


def chunks(stream: int, at: int) -> list[Chunk]:
    """What half second number `at` of a stream brings: a picture, shown twice as the model takes 4 a second; sound."""
    generator = torch.Generator().manual_seed(1000 * stream + at)
    picture = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8, generator=generator).expand(2, -1, -1, -1)
    sound = 0.1 * torch.randn(RATE // 2, 1, generator=generator)
    start, end = HALF * at, HALF * (at + 1)
    return [Chunk(picture, start, end, "video"), Chunk(sound, start, end, "audio")]


def one_by_one(sessions: list[Session], coming: list[list[Chunk]]) -> None:
    for session, mine in zip(sessions, coming, strict=True):
        for chunk in mine:
            session.append(chunk)


def side_by_side(sessions: list[Session], coming: list[list[Chunk]]) -> None:
    refused = together.append([(s, c) for s, mine in zip(sessions, coming, strict=True) for c in mine])
    assert not refused


Way = Callable[[list[Session], list[list[Chunk]]], None]
WAYS: dict[str, Way] = {"one by one": one_by_one, "side by side": side_by_side}


def measure(streams: int, seconds: float, keep: float, rounds: int) -> dict[str, float]:
    """Seconds of streams that each way takes in a second."""
    model = load("nano")
    steps = round(seconds / HALF)
    sessions = [Session(model, modalities=["video", "audio"], keep=Keep(keep)) for _ in range(streams)]
    warm = round(keep / HALF) + 4  # until each remembers as much as it ever will
    for at in range(warm):
        side_by_side(sessions, [chunks(n, at) for n in range(streams)])
    ahead = [[chunks(n, warm + at) for n in range(streams)] for at in range(steps)]
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    ends: dict[str, list[Session]] = {}
    for _ in range(rounds):
        for name, way in WAYS.items():
            mine = [s.fork() for s in sessions]
            begun = time.perf_counter()
            for coming in ahead:
                way(mine, coming)
            taken[name].append(time.perf_counter() - begun)
            ends[name] = mine
    check(*ends.values())
    return {name: streams * seconds / statistics.median(times) for name, times in taken.items()}


def check(alone: list[Session], abreast: list[Session]) -> None:
    """Both ways remember the same; SystemExit if not."""
    for a, b in zip(alone, abreast, strict=True):
        pairs = zip((*a.context.keys, *a.context.values), (*b.context.keys, *b.context.values), strict=True)
        off = max(float((x.x - y.x).abs().max() / y.x.abs().max()) for x, y in pairs)
        if a.context.blocks != b.context.blocks or off > 1e-4:
            raise SystemExit(f"side by side is not the same as one by one: off by {off:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"streams": 8, "seconds": 6.0, "keep": 10.0, "rounds": 5}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = vars(parser.parse_args())
    path = options.pop("json")
    found: dict[str, Any] = {name: round(value, 2) for name, value in measure(**options).items()}
    ratio = round(found["side by side"] / found["one by one"], 2)
    for name, value in found.items():
        print(f"{name:14}{value:8} s of streams a second")
    print(f"ratio         {ratio:8} (goal 3)")
    if path:
        said = {"schema_version": 1, "date": date.today().isoformat(), "machine": platform.machine()}
        said |= {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__}
        path.write_text(
            json.dumps({**said, **options, "stream_seconds_a_second": found, "ratio": ratio}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
