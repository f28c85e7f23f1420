"""When each policy speaks, on rendered streams whose event times are exact.

    python benchmarks/when_to_speak.py --json benchmarks/results/when_to_speak.json
    python benchmarks/when_to_speak.py --head runs/nano_speak
    python benchmarks/when_to_speak.py --vad silero_vad.onnx --speech one.wav two.wav

`scenes`: one rendered scene after another, to be told of when it ends. `seen`, `heard`, `both`: things that happen at
irregular times in such scenes, as sounds over noise, and as scenes with a sound track, each to be told of when it is
over (`mmworld.render.streams`); that a scene gives way to the next is nothing to be told of. `speech`: the sounds
given, one after another over faint noise with pauses of one to four seconds between, to be told of when each ends; nano
does not know words, so only the time counts. What is at most three quarters of a second off is in time: where one
speaks every two seconds, three quarters of all events are met by chance. See `mmworld.evaluate.timing` for the figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from figures import write

from mmworld import AsTrained, AtSilence, Captioner, Every, OnChange
from mmworld.evaluate.timing import timing
from mmworld.media.audio import samples
from mmworld.media.gate import open_media
from mmworld.models.load import load
from mmworld.models.opening import Opened
from mmworld.models.world import World
from mmworld.render import scenes, streams
from mmworld.stream.ops import merge
from mmworld.stream.policy import Policy
from mmworld.types import Caption, Chunk

RATE = 16_000
SEED = 7_000_000_002
TOLERANCE = 0.75
"""Seconds."""
SHOWN = ("precision", "recall", "f1", "time_difference", "silence", "fluency")
Stream = tuple[list[Chunk], list[Caption]]
"""What comes, and what is to be said of it and when."""


def scenes_in_a_row(n: int) -> Stream:
    """n scenes of one or two things that each do something."""
    chunks: list[Chunk] = []
    true: list[Caption] = []
    clock = 0.0
    for i in range(n):
        scene = scenes.draw(np.random.default_rng((SEED, i)), 1 + i % 2)
        chunk = scenes.video(scene)
        chunks.append(replace(chunk, start=clock, end=clock + chunk.end, last=i == n - 1))
        true.append(Caption(scene.caption, clock, clock + chunk.end))
        clock += chunk.end
    return chunks, true


def events(kind: str, seconds: float) -> Stream:
    """A course of a kind in pieces of a second, drawn from a seed of its own."""
    course = streams.draw(np.random.default_rng((SEED, list(streams.SENSES).index(kind))), kind, seconds)
    return list(merge(*map(pieces, course.chunks))), list(course.events)


def pieces(chunk: Chunk) -> list[Chunk]:
    """The chunk in pieces of a second."""
    rate = round(len(chunk.data) / (chunk.end - chunk.start))
    parts = chunk.data.split(rate)
    return [Chunk(x, float(i), i + len(x) / rate, chunk.modality, i == len(parts) - 1) for i, x in enumerate(parts)]


def speeches(paths: Sequence[Path]) -> Stream:
    """Each file's sound after a pause, and a pause at the end."""
    rng = np.random.default_rng(SEED)
    true: list[Caption] = []
    parts: list[torch.Tensor] = []
    for path in paths:
        heard = torch.cat([piece.data[:, 0] for piece in samples(open_media(path), rate=RATE, mono=True)])
        loud = (heard.abs() > 0.03).nonzero()[:, 0]
        begin = true[-1].end if true else 0.0
        parts += [torch.zeros(int(rng.uniform(1, 4) * RATE)), heard[int(loud[0]) : int(loud[-1]) + 1]]
        true.append(Caption("", begin, sum(map(len, parts)) / RATE))
    sound = torch.cat((*parts, torch.zeros(2 * RATE)))
    sound += 10**-4 * torch.randn(len(sound), generator=torch.Generator().manual_seed(0))
    return [Chunk(sound[:, None], 0.0, len(sound) / RATE, "audio", last=True)], true


def measure(world: World, name: str, stream: Stream, policies: Sequence[Policy]) -> list[dict[str, object]]:
    """A row for each policy, and one of the truth itself."""
    chunks, true = stream
    rows: list[dict[str, object]] = [{"stream": name, "policy": "the truth", **rounded(true, true), "seconds": 0.0}]
    for policy in policies:
        began = time.perf_counter()
        modalities = tuple(sorted({c.modality for c in chunks}))
        said = Captioner(world, policy).caption(Opened(name, modalities, iter(chunks)))
        took = round(time.perf_counter() - began, 1)
        rows.append({"stream": name, "policy": called(policy), **rounded(said, true), "seconds": took})
    return rows


def called(policy: Policy) -> str:
    """Without the path of its file."""
    if isinstance(policy, AsTrained):
        return f"AsTrained(threshold={policy.threshold or policy.listener.config.threshold})"
    return f"AtSilence(silence={policy.silence})" if isinstance(policy, AtSilence) else repr(policy)


def rounded(said: Sequence[Caption], true: Sequence[Caption]) -> dict[str, float]:
    figures = asdict(timing(said, true, tolerance=TOLERANCE))
    both = figures["precision"] + figures["recall"]
    figures["f1"] = 2 * figures["precision"] * figures["recall"] / both if both else 0.0
    return {n: round(x, 3) for n, x in figures.items()} | {"said": len(said), "events": len(true)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--events", type=float, default=600.0, metavar="S", help="seconds of each other kind; 0: none")
    parser.add_argument("--head", default="nano", metavar="NAME", help="a model, or a folder, with a listen/speak head")
    parser.add_argument(
        "--speech", type=Path, nargs="*", default=[], metavar="FILE", help="sounds of somebody speaking"
    )
    parser.add_argument("--vad", type=Path, metavar="FILE", help="Silero's ONNX, for AtSilence")
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    options = parser.parse_args()
    world = load(options.model)
    timed: list[Policy] = [Every(2.0), Every(5.0)]
    changes: list[Policy] = [OnChange(t) for t in (0.2, 0.3, 0.4)]
    trained: list[Policy] = [AsTrained(options.head)] if options.head else []
    rows = measure(world, "scenes", scenes_in_a_row(options.scenes), [*timed, *changes])
    for kind in streams.SENSES if options.events else ():
        rows += measure(world, kind, events(kind, options.events), [Every(1.0), *timed, *changes, *trained])
    if options.speech:
        silent: list[Policy] = [AtSilence(options.vad, silence=s) for s in (0.3, 0.5)] if options.vad else []
        rows += measure(world, "speech", speeches(options.speech), [*timed, *changes[1:2], *silent])
    for row in rows:
        figures = "".join(f"{n} {row[n]:<8}" for n in SHOWN)
        print(f"{row['stream']:8}{row['policy']:60}{figures}{row['said']}/{row['events']}", flush=True)
    if options.json:
        write(options.json, model=options.model, tolerance=TOLERANCE, rows=rows)


if __name__ == "__main__":
    main()
