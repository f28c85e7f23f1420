"""What watching costs over the bare model, and how late its captions are.

    python benchmarks/stream_live.py [--seconds 60] [--rounds 7] [--json FILE]

Cost: the same chunks of a rendered film with sound, decoded before, through `Live` and through a bare loop that
encodes, reads and speaks; wall and CPU seconds of the whole process, alternating, medians. `Live` perceives and speaks
on two cores at once, which makes each a little slower and both together sooner done. Delay: the film played in real
time, from when what ended a segment was there to when its caption was; an event is told of at most `--every` seconds
and this after it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

from figures import write

os.environ.setdefault("OMP_NUM_THREADS", "1")


def film(seconds: float) -> list[Any]:
    """Chunks of rendered scenes with sound, one after the other, each 0.25 s."""
    import numpy as np

    from mmworld.render import mixed
    from mmworld.types import Chunk

    out: list[Any] = []
    at, i = 0.0, 0
    while at < seconds:
        streams = mixed.clip(np.random.default_rng((7, i))).chunks
        length = min(c.end for c in streams)
        n = int(length / 0.25)
        for k in range(n):
            for chunk in streams:
                rate = len(chunk.data) / (chunk.end - chunk.start)
                rows = chunk.data[round(k * 0.25 * rate) : round((k + 1) * 0.25 * rate)]
                out.append(Chunk(rows, at + k * 0.25, at + (k + 1) * 0.25, chunk.modality))
        at, i = at + n * 0.25, i + 1
    return out


def bare(world: Any, chunks: list[Any], every: float) -> int:
    """Captions said by nothing but the model's own parts."""
    from mmworld.generate.decode import answer
    from mmworld.models.session import Session

    session, due, said = Session(world, modalities=["audio", "video"]), every, 0
    for chunk in chunks:
        session.append(chunk)
        if session.done >= due:
            said += bool(answer(world, [session.context])[0].text)
            session.clear(due)
            due += every
    return said


def live(world: Any, chunks: list[Any], every: float, *, real_time: bool = False) -> Any:
    from mmworld.models.captioner import Captioner
    from mmworld.models.live import Live
    from mmworld.models.opening import Opened
    from mmworld.stream.policy import Every

    source = Opened("film", ("audio", "video"), iter(chunks), live=not real_time)
    with Live(Captioner(world, Every(every)), [source], pressure="block", real_time=real_time) as watched:
        said = sum(1 for _ in watched)
        return said, watched.delay(0.5), watched.delay(0.95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--every", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    import torch

    from mmworld.models.load import load

    torch.set_num_threads(1)
    world, chunks = load("nano"), film(args.seconds)
    costs: dict[str, list[tuple[float, float]]] = {"bare": [], "live": []}
    for i in range(args.rounds + 1):
        for name, way in (("bare", bare), ("live", live)):
            begun = time.perf_counter(), time.process_time()
            way(world, chunks, args.every)
            if i:  # the first warms up
                costs[name].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    wall, cpu = (
        {name: round(statistics.median(v[i] for v in values), 3) for name, values in costs.items()} for i in (0, 1)
    )
    _, half, most = live(world, chunks, args.every, real_time=True)
    rows = {"seconds": args.seconds, "every": args.every, "wall_seconds": wall, "cpu_seconds": cpu}
    rows |= {"wall_overhead": round(wall["live"] / wall["bare"] - 1, 4)}
    rows |= {"cpu_overhead": round(cpu["live"] / cpu["bare"] - 1, 4), "delay_p50": round(half, 3)}
    rows |= {"delay_p95": round(most, 3)}
    over = [f"{100 * rows[name]:+.1f}%" for name in ("wall_overhead", "cpu_overhead")]
    print(f"wall {wall}: {over[0]} (goal <= 5%); CPU {cpu}: {over[1]}")
    print(f"captions come {half:.2f} s late, one in twenty {most:.2f} s (goal <= 1 s of the stream)")
    if args.json:
        write(args.json, **rows)


if __name__ == "__main__":
    main()
