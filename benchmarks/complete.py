"""How many ids a second prompts of different lengths go on with: one by one, side by side as `complete` does it, and
with transformers' `generate`, which pads them.

    python benchmarks/complete.py [--prompts 16] [--tokens 32] [--width 512] [--layers 6] [--repeat 3] [--json FILE]

A LLaMA of random weights in float32. All run in turn, `--repeat` times over, so that a busy machine is busy for all of
them; medians. Every way has to say the same ids.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from figures import in_turn, write

Texts = list[list[int]]
VOCABULARY, FIRST, STEP = 4000, 10, 7
"""Ids, those of the shortest prompt, and by how many each is longer than the one before."""


def models(width: int, layers: int) -> tuple[Any, Any]:
    """Theirs, and ours of the same weights; no id ends a text."""
    import transformers

    import mmworld

    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
    }
    sizes |= {"num_attention_heads": width // 64, "num_key_value_heads": max(1, width // 128)}
    none = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": 0}
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **none)).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours: Any = mmworld.load(folder)
    ours.tokenizer = SimpleNamespace(ends=(), decode=lambda ids: "")
    return ours, theirs


def ways(ours: Any, theirs: Any, prompts: Texts, tokens: int) -> dict[str, Callable[[], Texts]]:
    from mmworld.generate.decode import complete
    from mmworld.generate.stop import Stop

    stop, longest = Stop(tokens), max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    real = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    how = {"attention_mask": real, "max_new_tokens": tokens, "do_sample": False}
    return {
        "one by one": lambda: [list(complete(ours, [p], stop=stop)[0].ids) for p in prompts],
        "side by side": lambda: [list(g.ids) for g in complete(ours, prompts, stop=stop)],
        "transformers, padded": lambda: theirs.generate(padded, **how)[:, longest:].tolist(),
    }


@torch.no_grad()
def measure(prompts: int, tokens: int, width: int, layers: int, repeat: int) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    ours, theirs = models(width, layers)
    given = [torch.randint(3, VOCABULARY, (FIRST + STEP * i,)).tolist() for i in range(prompts)]
    runs = ways(ours, theirs, given, tokens)
    said = {name: run() for name, run in runs.items()}  # not counted: what is first called is slow
    first, *rest = said.values()
    if any(other != first for other in rest):
        raise SystemExit("the ways do not say the same")
    taken = in_turn(runs, repeat)
    return [{"name": n, "ids_a_second": round(prompts * tokens / statistics.median(t))} for n, t in taken.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"prompts": 16, "tokens": 32, "width": 512, "layers": 6, "repeat": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = vars(parser.parse_args())
    path = options.pop("json")
    rows = measure(**options)
    for row in rows:
        print(f"{row['name']:24}{row['ids_a_second']:8} ids/s")
    if path:
        write(path, **options, rows=rows)


if __name__ == "__main__":
    main()
