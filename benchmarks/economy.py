"""What leaving out and joining tokens of film costs and saves: captions of unseen rendered scenes, with and without.

python benchmarks/economy.py [--scenes 200] [--json FILE]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figures import write

WAYS = {
    "all tokens": None,
    "similar 0.99": (0.99, None),
    "similar 0.97": (0.97, None),
    "similar 0.95": (0.95, None),
    "similar 0.90": (0.90, None),
    "at most 3 of 4 a block": (2.0, 3),
    "at most 2 of 4 a block": (2.0, 2),
}


def measured(world: Any, economy: Any, scenes: int) -> dict[str, Any]:
    """Scores of captions, the share of tokens that stayed, and CPU seconds of reading and speaking, scene by scene as
    one stream does."""
    from mmworld.evaluate.rendered import unseen_scenes
    from mmworld.generate.decode import answer
    from mmworld.models.session import Session
    from mmworld.types import Chunk

    given = kept = 0
    begun = time.thread_time()

    def say(streams: Sequence[Sequence[Chunk]]) -> list[str]:
        nonlocal given, kept
        contexts = []
        for chunks in streams:
            session = Session(world, modalities=[c.modality for c in chunks], economy=economy)
            for chunk in chunks:
                session.append(chunk)
            contexts.append(session.context)
            if "video" in session.streams:
                given += session.streams["video"].given
                kept += session.streams["video"].kept
        return [answer(world, [c])[0].text for c in contexts]

    scores = {s.name: round(s.value, 4) for s in unseen_scenes(say, scenes)}
    return {"kept": round(kept / given, 4), "seconds": round(time.thread_time() - begun, 2), **scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    import torch

    from mmworld.models.load import load
    from mmworld.stream.economy import Economy

    torch.set_num_threads(1)
    world, rows = load("nano"), []
    for name, values in WAYS.items():
        economy = {"video": Economy(*values)} if values else {}
        rows.append({"name": name, **measured(world, economy, args.scenes)})
        print(rows[-1], flush=True)
    if args.json:
        write(args.json, scenes=args.scenes, rows=rows)


if __name__ == "__main__":
    main()
