"""How much memory and time `mmworld.load` takes beside transformers, on a sharded checkpoint that is made here.

    python benchmarks/load.py [--gb 1] [--repeat 3] [--json FILE]

Each figure is from a process of its own: its peak of resident memory until every weight has been looked at once, as
transformers maps files and they are only then in memory. What is imported does not count: both import much when they
first load, so that a tiny checkpoint comes before. Both libraries in turn, `--repeat` times over; medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from figures import write

LIBRARIES, DTYPES = ("mmworld", "transformers"), ("float32", "bfloat16")
GOAL = 1.1


def checkpoint(folder: Path, gb: float, dtype: str, width: int = 1024) -> int:
    """A LLaMA of random weights in ten shards; returns their bytes."""
    from mmworld.models.zoo import FAMILIES
    from mmworld.weights import shards

    each = torch.empty((), dtype=getattr(torch, dtype)).itemsize
    config: dict[str, Any] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 16 * width}
    config |= {
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
    }
    config |= {"rms_norm_eps": 1e-5, "max_position_embeddings": 2048, "tie_word_embeddings": False}
    layer, ends = 13 * width**2, 32 * width**2
    config |= {"num_hidden_layers": max(1, round((gb * 1e9 / each - ends) / layer)), "torch_dtype": dtype}
    model = FAMILIES.get("llama")(config).to(getattr(torch, dtype))
    tensors = model.keymap.theirs(model.state_dict())
    total = sum(x.nbytes for x in tensors.values())
    shards.write(folder, config, tensors, total // 10)
    return total


def status(name: str) -> int:
    """Bytes of VmRSS or VmHWM of this process alone; ru_maxrss would begin at what the parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def loaded(library: str, folder: str, dtype: str) -> dict[str, float]:
    """In a child: load, and what that took."""
    if library == "mmworld":
        import mmworld

        load = mmworld.load
    else:
        from transformers import LlamaForCausalLM

        load = LlamaForCausalLM.from_pretrained
    with tempfile.TemporaryDirectory() as tiny:
        checkpoint(Path(tiny), 0, dtype, width=16)
        load(tiny, dtype=getattr(torch, dtype))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    base, start = status("VmRSS"), time.perf_counter()
    model = load(folder, dtype=getattr(torch, dtype))
    for x in model.parameters():
        x.view(-1)[::512].max()  # a number of every page
    took, most = time.perf_counter() - start, status("VmHWM")
    return {"seconds": took, "peak": (most - base) / sum(x.nbytes for x in model.parameters())}


def measure(gb: float, repeat: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for dtype in DTYPES:
        with tempfile.TemporaryDirectory() as folder:
            total = checkpoint(Path(folder), gb, dtype)
            taken: dict[str, list[dict[str, float]]] = {library: [] for library in LIBRARIES}
            for _ in range(repeat):
                for library in LIBRARIES:
                    command = [sys.executable, __file__, "--child", library, folder, dtype]
                    taken[library].append(
                        json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
                    )
            for library, runs in taken.items():
                peak, seconds = (statistics.median(run[of] for run in runs) for of in ("peak", "seconds"))
                row: dict[str, Any] = {"name": f"{library}, {dtype}", "weights_mb": round(total / 1e6)}
                row |= {"peak_of_weights": round(peak, 3), "seconds": round(seconds, 3)}
                rows.append(row | ({"goal": f"<= {GOAL}"} if library == "mmworld" else {}))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1.0, help="of weights")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(loaded(*options.child)))
        return
    rows = measure(options.gb, options.repeat)
    for row in rows:
        took = f"{row['peak_of_weights']:8.3f}x the weights{row['seconds']:9.3f} s"
        print(f"{row['name']:24}{row['weights_mb']:6} MB{took}")
    if options.json:
        from importlib.metadata import version

        write(options.json, transformers=version("transformers"), rows=rows)


if __name__ == "__main__":
    main()
