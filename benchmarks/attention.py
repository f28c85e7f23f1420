"""Our attention beside torch's own, padded, and on CUDA beside xformers: medians of runs that alternate.

python benchmarks/attention.py [--json FILE] [--rounds N] [--device cuda]
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from mmworld.attention import CAUSAL, FULL, Mask, attention, why_not
from mmworld.attention import xformers as xformers_backend

HEADS, KV_HEADS, HEAD_DIM = 4, 4, 48
Run = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    name: str
    mask: Mask
    n_queries: int
    n_keys: int
    batch: int = 1


def cases() -> list[Case]:
    """Shapes of training, of encoders and of streams; the same in every run."""
    draw = random.Random(0)
    lengths = tuple(draw.randint(50, 300) for _ in range(40))
    blocks = tuple(size for n in lengths for size in _blocks(draw, n))
    n, held = sum(lengths), sum(lengths[:16])
    ones = (1,) * 16
    return [
        Case("batch of 8, full, 196 tokens", FULL, 196, 196, 8),
        Case("one row, causal, 1024 tokens", CAUSAL, 1024, 1024),
        Case("one row, window of 128, 4096 tokens", Mask("causal", window=128), 4096, 4096),
        Case("packed 40 segments, full", Mask("full", lengths=lengths), n, n),
        Case("packed 40 segments, causal", Mask("causal", lengths=lengths), n, n),
        Case("packed 40 segments, blocks", Mask("blocks", blocks, lengths=lengths), n, n),
        Case("a block of 4 on 256 held", Mask("blocks", (4,) * 65, lengths=(4,), key_lengths=(260,)), 4, 260),
        Case("a token each on 16 streams", Mask("causal", lengths=ones, key_lengths=lengths[:16]), 16, held),
    ]


def _blocks(draw: random.Random, n: int) -> list[int]:
    """Media blocks of 4 to 12 tokens over two thirds of a segment, then text of a token each."""
    sizes: list[int] = []
    while sum(sizes) < 2 * n // 3:
        sizes.append(draw.randint(4, 12))
    return [*sizes, *(1,) * (n - sum(sizes))]


def ours(case: Case) -> Run:
    return lambda q, k, v: attention(q, k, v, case.mask)


def padded(case: Case, device: str) -> Run:
    """Every segment padded to the longest, one call of torch's own with the rule as a bool mask."""
    segments = case.mask.segments(case.n_queries, case.n_keys)
    q_longest, k_longest = max(s[0] for s in segments), max(s[1] for s in segments)
    seen = torch.zeros(len(segments), 1, q_longest, k_longest, dtype=torch.bool)
    for row, (n_q, n_k, rule) in zip(seen[:, 0], segments, strict=True):
        row[:n_q, :n_k] = rule.dense(n_q, n_k)
        row[n_q:, 0] = True  # a query of padding must see something
    q_place, k_place = _places([s[0] for s in segments]).to(device), _places([s[1] for s in segments]).to(device)
    mask = None if bool(seen.all()) else seen.to(device)
    back = (q_place < case.n_queries).flatten().nonzero()[:, 0]

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if len(segments) == 1:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
        rows = (pad(x[0], (0, 0, 0, 0, 0, 1))[place] for x, place in ((q, q_place), (k, k_place), (v, k_place)))
        q, k, v = (x.transpose(1, 2) for x in rows)
        return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(0, 1)[back][None]

    return run


def _places(lengths: list[int]) -> Tensor:
    """Where the tokens of each segment stand in the row, [segments, longest]; padding stands one past its end."""
    out, at = torch.full((len(lengths), max(lengths)), sum(lengths)), 0
    for row, n in zip(out, lengths, strict=True):
        row[:n] = torch.arange(at, at + n)
        at += n
    return out


def xformers(case: Case, device: str) -> Run | None:
    """xformers called directly with the bias that says the same; None where that would be a dense one."""
    from xformers.ops import memory_efficient_attention

    bias = xformers_backend.lower(case.mask, case.n_queries, case.n_keys, 1, torch.device(device))
    if isinstance(bias, Tensor):
        return None
    return lambda q, k, v: memory_efficient_attention(q, k, v, attn_bias=bias)


def measure(runs: dict[str, Run], inputs: list[Tensor], rounds: int, *, backward: bool) -> dict[str, float]:
    """Median milliseconds of each, one after the other in every round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    along = torch.randn_like(next(iter(runs.values()))(*inputs))
    for i in range(rounds + 2):
        for name, run in runs.items():
            start = _now(inputs[0].device)
            with torch.set_grad_enabled(backward):
                out = run(*inputs)
                if backward:
                    torch.autograd.grad(out, inputs, along)
            if i >= 2:
                times[name].append(1e3 * (_now(inputs[0].device) - start))
    return {name: statistics.median(t) for name, t in times.items()}


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass(frozen=True)
class Result:
    """Median milliseconds of each contestant, and how many times ours that is."""

    case: str
    backward: bool
    ms: dict[str, float]
    ratio_to_ours: dict[str, float]


def compare(case: Case, device: str, rounds: int) -> list[Result]:
    dtype = torch.float16 if device == "cuda" else torch.float32
    shapes = [(case.n_queries, HEADS), (case.n_keys, KV_HEADS), (case.n_keys, KV_HEADS)]
    inputs = [
        torch.randn(case.batch, n, h, HEAD_DIM, device=device, dtype=dtype, requires_grad=True) for n, h in shapes
    ]
    runs: dict[str, Run] = {"ours": ours(case), "torch, padded": padded(case, device)}
    if not why_not("xformers", *inputs, case.mask) and (direct := xformers(case, device)):
        runs["xformers"] = direct
    expected = runs["ours"](*inputs)
    for name, run in runs.items():
        torch.testing.assert_close(run(*inputs), expected, rtol=1e-2, atol=1e-2, msg=f"{case.name}: {name} differs")
    results = []
    for backward in (False, True):
        times = measure(runs, inputs, rounds, backward=backward)
        results.append(Result(case.name, backward, times, {name: t / times["ours"] for name, t in times.items()}))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    name = torch.cuda.get_device_name() if args.device == "cuda" else f"{platform.machine()} CPU"
    about = {"torch": torch.__version__, "device": name, "threads": torch.get_num_threads(), "rounds": args.rounds}
    print(" · ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{'case':37} {'pass':8} {'ours ms':>8}  the others: ms (times ours)")
    results = []
    for case in cases():
        for r in compare(case, args.device, args.rounds):
            others = ", ".join(f"{n} {r.ms[n]:.2f} ({r.ratio_to_ours[n]:.2f})" for n in r.ms if n != "ours")
            print(f"{r.case:37} {'fwd+bwd' if r.backward else 'fwd':8} {r.ms['ours']:8.2f}  {others}", flush=True)
            results.append(asdict(r))
    if args.json:
        args.json.write_text(json.dumps({"schema_version": 1, **about, "rows": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
