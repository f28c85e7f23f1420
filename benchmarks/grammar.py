"""What a grammar costs each id that is said: its rule alone, beside the plain pick of the likeliest id.

    python benchmarks/grammar.py [--ids 151000] [--rows 1] [--repeat 3] [--json]

A vocabulary of made-up words, a model of random scores, and a schema as of a tool call, of whose JSON it says 400 ids.
The vocabulary is laid out once a model, the schema once a question; medians and means over ids, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch

from mmworld.generate.grammar import Grammar, Held
from mmworld.generate.rules import Prefix

TEXT = {"type": "string", "minLength": 300}
SCHEMA = {"type": "object", "properties": {"name": {"enum": ["seek", "zoom"]}, "note": TEXT, "tags": {"type": "array"}}}
SCHEMA |= {"required": ["name", "note", "tags"], "additionalProperties": False}


class Words:
    """Bytes, marks of JSON, and words, most with a space before them."""

    def __init__(self, n: int) -> None:
        rng, words = np.random.default_rng(0), {b'{"', b'":', b'",', b'": "', b'"}', b"}}", b'", "'}
        while len(words) < n - 256:
            letters = rng.integers(97, 123, rng.integers(2, 10), np.uint8).tobytes()
            words.add(letters if rng.random() < 0.3 else b" " + letters)
        self.tokens, self.ends = [*(bytes([i]) for i in range(256)), *sorted(words)], (n,)

    def spelling(self) -> list[bytes]:
        return [*self.tokens, b""]

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.tokens[i] for i in ids).decode(errors="replace")


def measure(n: int, rows: int, steps: int = 400) -> dict[str, float]:
    words, grammar = Words(n), Grammar.json(SCHEMA)
    begun = time.perf_counter()
    Held(grammar, words)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    rule = Held(Grammar.json({**SCHEMA, "title": "again"}), words)
    again = time.perf_counter() - begun
    said: list[list[int]] = [[] for _ in range(rows)]
    numbers, times, picks = torch.Generator().manual_seed(0), [], []
    for _ in range(steps):
        scores = torch.randn(rows, n + 1, generator=numbers)
        begun = time.perf_counter()
        scores.argmax(-1)
        picked = time.perf_counter()
        kept = rule([Prefix((), ids) for ids in said], scores)
        times.append(time.perf_counter() - picked)
        picks.append(picked - begun)
        kept[:, words.ends[0]] = -torch.inf
        for ids, i in zip(said, kept.argmax(-1).tolist(), strict=True):
            ids.append(i)
    found = {"rule, median": statistics.median(times), "rule, mean": statistics.mean(times), "rule, most": max(times)}
    found |= {"plain pick, median": statistics.median(picks), "vocabulary, once": first, "schema, once": again}
    return {name: 1000 * seconds for name, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=151_000)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = [measure(options.ids, options.rows) for _ in range(options.repeat)]
    rows = {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}
    if options.json:
        print(
            json.dumps({"schema_version": 1, "ids": options.ids, "rows": options.rows, "cpus": os.cpu_count(), **rows})
        )
        return
    print(f"{options.ids} ids, {options.rows} rows")
    for name, figure in rows.items():
        print(f"{name:24}{figure:10.3f} ms")


if __name__ == "__main__":
    main()
