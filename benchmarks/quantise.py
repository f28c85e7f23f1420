"""What weights of few bits cost and save: a LLaMA of random weights, loaded and read in each dtype and kind.

    python benchmarks/quantise.py [--gb 0.5] [--tokens 16] [--json FILE]

Each row is from a process of its own. `weights` is what the model holds, `peak` the most that was resident while it was
loaded (as of benchmarks/load.py) and its ratio to that. A text of sixteen ids is read at once, then `--tokens` ids one
by one, and `error` is the length of the difference of the logits from those of float32, by the length of these.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from figures import write
from load import checkpoint, status
from torch import Tensor

ROWS = ("float32", "bfloat16", "float32 int8", "bfloat16 int8", "float32 int4", "bfloat16 int4")
PROMPT = 16
LOGITS = "logits.pt"


def nbytes(x: Tensor) -> int:
    """What a tensor holds, a quantised one too."""
    parts = getattr(x, "__tensor_flatten__", None)
    return x.nbytes if parts is None else sum(getattr(x, name).nbytes for name in parts()[0])


@torch.no_grad()
def row(folder: str, name: str, n: int) -> dict[str, Any]:
    """In a child: load, and read."""
    import mmworld

    dtype, *kind = name.split()
    how: dict[str, Any] = {"dtype": getattr(torch, dtype), "quantise": kind[0] if kind else None}
    with tempfile.TemporaryDirectory() as tiny:
        checkpoint(Path(tiny), 0, "bfloat16", width=64)
        mmworld.load(tiny, **how)  # what it imports
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    base, start = status("VmRSS"), time.perf_counter()
    model: Any = mmworld.load(folder, **how)
    took, peak = time.perf_counter() - start, status("VmHWM") - base
    weights = sum(nbytes(x) for x in (*model.parameters(), *model.buffers()))
    ids = torch.randint(0, 1000, (1, PROMPT + n), generator=torch.Generator().manual_seed(0))
    state = model.init_state()
    begun = time.perf_counter()
    logits = [model.read(ids[:, :PROMPT], state)]
    read = time.perf_counter()
    logits += [model.read(ids[:, PROMPT + i : PROMPT + i + 1], state) for i in range(n)]
    ended, told, at = time.perf_counter(), torch.cat(logits).float(), Path(folder, LOGITS)
    if name == ROWS[0]:
        torch.save(told, at)
    want = torch.load(at, weights_only=True)
    out = {"name": name, "weights_mb": round(weights / 1e6), "peak_mb": round(peak / 1e6)}
    out |= {"peak_of_weights": round(peak / weights, 3), "load_seconds": round(took, 2)}
    out |= {"prompt_tokens_per_s": round(PROMPT / (read - begun), 2), "tokens_per_s": round(n / (ended - read), 2)}
    return out | {"error": round(float((told - want).norm() / want.norm()), 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=0.5, help="of weights in bfloat16")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(row(*options.child, options.tokens)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint(Path(folder), options.gb, "bfloat16")
        for name in ROWS:
            command = [sys.executable, __file__, "--tokens", str(options.tokens), "--child", folder, name]
            made = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            rows.append(made)
            held = f"{made['weights_mb']:6} MB, peak {made['peak_mb']:5} MB ({made['peak_of_weights']:.2f}x)"
            speed = f"{made['prompt_tokens_per_s']:8} and {made['tokens_per_s']:7} tokens/s"
            print(f"{name:14}{held}{made['load_seconds']:7} s{speed}   error {made['error']}", flush=True)
    if options.json:
        from importlib.metadata import version

        write(options.json, threads=torch.get_num_threads(), torchao=version("torchao"), rows=rows)


if __name__ == "__main__":
    main()
