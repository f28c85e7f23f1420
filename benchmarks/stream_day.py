"""A simulated day of 2 pictures, 16 kHz sound and a cloud each second: does its last hour cost what its first did?

    python benchmarks/stream_day.py [--hours 24] [--keep 10] [--minutes 60] [--json FILE]

Times are CPU seconds of this thread. So that other work on the machine counts little, every tenth minute is played
beside it on a copy of the stream as it was at minute 5: an hour's ratio is the median of those pairs. Beside it: a
decoder of the `LLaMA` shape that reads the same number of tokens a second, once here with a window, once in
transformers with its DynamicCache, on the same weights, for --minutes of the day.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from figures import resident, write

os.environ.setdefault("OMP_NUM_THREADS", "1")
TOKENS, DIM = 40, 256
"""Of the decoder beside: tokens a second, and its width."""
YOUNG = 5
"""Minutes after which a copy of the stream is kept."""


class Stream:
    """What comes of the day's sources in a minute, and what it costs a session to take it."""

    def __init__(self) -> None:
        import torch

        g = torch.Generator().manual_seed(0)
        self.pictures = torch.randint(0, 256, (64, 3, 96, 96), dtype=torch.uint8, generator=g)
        self.sound = torch.randn(16_000 * 16, 1, generator=g) * 0.1
        self.clouds = torch.randn(8, 2048, 3, generator=g)

    def play(self, session: Any, minute: int) -> float:
        """CPU seconds of that minute of the day."""
        from mmworld.types import Chunk

        begun = time.thread_time()
        for at in range(60 * minute, 60 * minute + 60):
            for half in (0, 1):
                frame = self.pictures[(2 * at + half) % 64][None].expand(2, -1, -1, -1)
                session.append(Chunk(frame, at + half / 2, at + (half + 1) / 2, "video"))
            heard = self.sound[at % 16 * 16_000 : (at % 16 + 1) * 16_000]
            session.append(Chunk(heard, float(at), at + 1.0, "audio"))
            session.append(Chunk(self.clouds[at % 8], float(at), at + 1.0, "points"))
        return time.thread_time() - begun


def day(hours: float, keep: float, path: Path | None) -> dict[str, Any]:
    """Of each hour the medians of its minutes: CPU seconds a minute of the stream, and as a ratio to the same minute
    on a copy of the stream as it was at minute 5; resident bytes and bytes of the state."""
    from mmworld.models.keep import Keep
    from mmworld.models.load import load
    from mmworld.models.session import Session

    stream = Stream()
    session = Session(load("nano"), modalities=["video", "audio", "points"], keep=Keep(keep))
    for minute in range(YOUNG):
        stream.play(session, minute)
    young = session.fork()
    stream.play(young.fork(), YOUNG)
    made: dict[str, Any] = {"minute_5_bytes": resident(), "hours": []}
    for hour in range(round(hours)):
        costs, ratios, sizes, states = [], [], [], []
        for minute in range(max(60 * hour, YOUNG), 60 * hour + 60):
            before = stream.play(young.fork(), YOUNG) if minute % 10 == 0 else None
            costs.append(stream.play(session, minute))
            if before is not None:
                ratios.append(2 * costs[-1] / (before + stream.play(young.fork(), YOUNG)))
            sizes.append(resident())
            states.append(session.nbytes)
        row = {"seconds_a_minute": round(statistics.median(costs), 4)}
        row |= {"to_minute_5": round(statistics.median(ratios), 4)}
        made["hours"].append(row | {"resident_bytes": int(statistics.median(sizes)), "state_bytes": max(states)})
        print(f"hour {hour + 1:2}: {made['hours'][-1]}", flush=True)
        if path:
            write(path, day=made)
    return made


def beside(minutes: int) -> list[dict[str, Any]]:
    """The same weights here, in a window, and in transformers: milliseconds a step and bytes of cache, minute by
    minute, until one of them is three times as slow as at first."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.cache_utils import DynamicCache

    import mmworld
    from mmworld.attention import Mask
    from mmworld.nn.state import KVState

    c = LlamaConfig(
        vocab_size=64, hidden_size=DIM, intermediate_size=2 * DIM, num_hidden_layers=4, num_attention_heads=4
    )
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        theirs = LlamaForCausalLM(c).eval()
        theirs.save_pretrained(folder)
        ours: Any = mmworld.load(folder)
    cache, state, rows = DynamicCache(), KVState(window=30, sinks=4), []
    x = torch.randn(1, TOKENS, DIM, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for minute in range(minutes):
            a, b = [], []
            for _ in range(60):
                begun = time.thread_time()
                ours.backbone(x, Mask("blocks", (TOKENS,)), state)
                a.append(time.thread_time() - begun)
                begun = time.thread_time()
                theirs.model(inputs_embeds=x, past_key_values=cache, use_cache=True)
                b.append(time.thread_time() - begun)
            held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
            ms = [round(1000 * statistics.median(t), 2) for t in (a, b)]
            rows.append({"minute": minute + 1, "mmworld_ms": ms[0], "transformers_ms": ms[1]})
            rows[-1] |= {"mmworld_bytes": state.nbytes, "transformers_bytes": held}
            print(rows[-1], flush=True)
            if ms[1] > 3 * rows[0]["transformers_ms"] and minute >= 4:
                break
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--keep", type=float, default=10.0)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = beside(args.minutes)
    made = day(args.hours, args.keep, args.json)
    first, last = made["hours"][0], made["hours"][-1]
    cost = last["to_minute_5"] / first["to_minute_5"]
    raw = last["seconds_a_minute"] / first["seconds_a_minute"]
    grown = last["resident_bytes"] / made["minute_5_bytes"] - 1
    held = [rows[i]["transformers_bytes"] >> 20 for i in (0, -1)]
    print(f"cost of the last hour / the first: {cost:.3f} (goal 0.95 to 1.05); not paired {raw:.3f}")
    print(f"resident memory since minute 5: {100 * grown:+.2f}% (goal < 1%)")
    print(f"transformers' cache: {held[0]} to {held[1]} MiB in {len(rows)} minutes")
    if args.json:
        write(args.json, day=made, beside=rows)


if __name__ == "__main__":
    main()
