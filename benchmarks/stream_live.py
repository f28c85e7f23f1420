"""What watching costs over the bare model, in which threads, and how late its captions are.

    python benchmarks/stream_live.py [--seconds 60] [--rounds 7] [--json FILE]
    taskset -c 0 python benchmarks/stream_live.py        # on one core, where threads do not slow each other down

Cost: the same chunks of a rendered film with sound, decoded before, through a bare loop that encodes, reads and speaks;
through the parts of which `Live` is made, one after the other in one thread (`turns`); and through `Live`; wall and CPU
seconds of the whole process, alternating, medians, and the CPU seconds of each of its threads. `Live` perceives and
speaks on two cores at once, which makes each a little slower and both together sooner done; where segments wait, it
tells of several side by side, which is cheaper. In real time none waits, and caches are as cold for both: what `Live`
takes more than `turns` there is its own, with all its waking and waiting. Delay: in real time, from when what ended a
segment was there to when its caption was; an event is told of at most `--every` seconds and this after it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
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


def turns(world: Any, chunks: list[Any], every: float, *, real_time: bool = False) -> int:
    """Captions said by what `Live` is made of, in one thread."""
    from mmworld.models.captioner import Captioner, cut
    from mmworld.stream.ops import paced
    from mmworld.stream.policy import Every

    captioner = Captioner(world, Every(every))
    segments = cut(paced(chunks) if real_time else chunks, captioner.begin(("audio", "video")), None)
    return sum(1 for segment in segments for _ in captioner.say([segment], "film"))


def live(world: Any, chunks: list[Any], every: float, *, real_time: bool = False) -> Any:
    from mmworld.models.captioner import Captioner
    from mmworld.models.live import Live
    from mmworld.models.opening import Opened
    from mmworld.stream.policy import Every

    source = Opened("film", ("audio", "video"), iter(chunks), live=not real_time)
    with Live(Captioner(world, Every(every)), [source], pressure="block", real_time=real_time) as watched:
        said = sum(1 for _ in watched)
        return said, watched.delay(0.5), watched.delay(0.95)


class Parts:
    """CPU seconds of each thread that ends while this is entered, by name, and of the one that enters it."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._run = threading.Thread.run

    def __enter__(self) -> Counter[str]:
        run, seconds = self._run, self.seconds

        def timed(thread: threading.Thread) -> None:
            run(thread)
            seconds[thread.name] += time.thread_time()

        threading.Thread.run = timed  # type: ignore[method-assign]
        self._begun = time.thread_time()
        return seconds

    def __exit__(self, *_: object) -> None:
        threading.Thread.run = self._run  # type: ignore[method-assign]
        self.seconds["main"] += time.thread_time() - self._begun


def measured(way: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Wall and CPU seconds of a run, those of each of its threads, and what it gives."""
    begun = time.perf_counter(), time.process_time()
    with Parts() as parts:
        given = way()
    taken = {"wall": time.perf_counter() - begun[0], "cpu": time.process_time() - begun[1]}
    return taken | parts, given


def medians(costs: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for c in costs for name in c)
    return {name: round(statistics.median(c.get(name, 0.0) for c in costs), 4) for name in names}


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
    ways: dict[str, Callable[..., Any]] = {"bare": bare, "turns": turns, "live": live}
    costs: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for i in range(args.rounds + 1):
        for name, way in ways.items():
            taken, _ = measured(lambda way=way: way(world, chunks, args.every))  # type: ignore[misc]
            if i:  # the first warms up
                costs[name].append(taken)
    found = {name: medians(taken) for name, taken in costs.items()}
    found["turns, real time"] = medians([measured(lambda: turns(world, chunks, args.every, real_time=True))[0]])
    paced, (_, half, most) = measured(lambda: live(world, chunks, args.every, real_time=True))
    found["live, real time"] = medians([paced])
    for name, taken in found.items():
        print(f"{name:16s}", ", ".join(f"{part} {seconds:.3f} s" for part, seconds in taken.items()))
    over = {f"{k}_overhead": round(found["live"][k] / found["bare"][k] - 1, 4) for k in ("wall", "cpu")}
    over["cpu_overhead_over_turns"] = round(found["live"]["cpu"] / found["turns"]["cpu"] - 1, 4)
    over["cpu_overhead_in_real_time"] = round(paced["cpu"] / found["turns, real time"]["cpu"] - 1, 4)
    print(", ".join(f"{name} {100 * share:+.1f}%" for name, share in over.items()), "(goal <= 5%)")
    print(f"captions come {half:.2f} s late, one in twenty {most:.2f} s (goal <= 1 s of the stream)")
    if args.json:
        rows = {"seconds": args.seconds, "every": args.every, "cores": len(os.sched_getaffinity(0))}
        write(args.json, **rows, found=found, **over, delay_p50=round(half, 3), delay_p95=round(most, 3))


if __name__ == "__main__":
    main()
