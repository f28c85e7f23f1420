"""What a memory is worth: whether the right scene is found again, and what is still known of it from what is kept.

    python benchmarks/recall.py --json benchmarks/results/recall.json

`found`: each of many rendered scenes is asked for by its true description; the share of which the best, or one of the
best five, is such a scene. By what was told of it, by what was seen of it, by both, and by both where of every other
scene nothing was told.

`asked`: of a thing in a scene, which has left the window, what it did: "a red circle" is to be answered by "moves
left". `first`: of the thing that acts first, as nano's captions begin with it. `told`: read from the caption of that
time. `now`: answered from the scene that is in the window, another one. `beside`: from the window, with what is kept of
the old scene put before the question. `alone`: from what is kept of the old scene in a context of its own.

`retold`: captions that are right word for word, made anew from what is kept, of media of each sense.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import write

from mmworld.attention import Mask
from mmworld.generate.decode import answer
from mmworld.generate.stop import Stop
from mmworld.models.hindsight import context, evidence
from mmworld.models.load import load
from mmworld.models.segments import Piece
from mmworld.models.session import Session
from mmworld.models.world import World
from mmworld.nn.state import KVState
from mmworld.render import Rendered, mixed, scenes, series, shapes, sounds
from mmworld.render.words import THEN, noun
from mmworld.stream.memory import Memory
from mmworld.types import Moment

SEED = 7_000_000_003
BUDGETS = 8, 16, 32, 4096
"""Tokens of each sense; the last is all of them."""
KINDS = {
    "scenes": scenes.clip,
    "sounds": sounds.clip,
    "films": mixed.clip,
    "series": series.clip,
    "clouds": shapes.cloud,
}
LATER = 17
"""Scenes by which the window has moved on."""


@dataclass(frozen=True)
class Seen:
    """A scene, as it was perceived, and what was told of it.

    Attributes:
        events: what each thing does, in order: ("red circle", "moves left").
    """

    caption: str
    events: tuple[tuple[str, str], ...]
    piece: Piece
    context: KVState
    told: str


def perceived(world: World, clip: Rendered) -> tuple[Piece, KVState]:
    """A clip as one piece, and its context."""
    session = Session(world, modalities=[c.modality for c in clip.chunks])
    for chunk in clip.chunks:
        session.feed(chunk)
    blocks = session.due()
    session.enter(blocks)
    return Piece(session.zero, max(b.end for b in blocks), tuple(blocks)), session.context


def drawn(world: World, n: int) -> list[Seen]:
    """Scenes of one to three things that each do something."""
    found = []
    for i in range(n):
        rng = np.random.default_rng((SEED, i))
        scene = scenes.draw(rng, int(rng.integers(1, 4)))
        piece, state = perceived(world, Rendered((scenes.video(scene),), scene.caption))
        (told,) = answer(world, [state])
        events = tuple((e.thing.name, e.action) for e in scene.events)
        found.append(Seen(scene.caption, events, piece, state, told.text))
    return found


def found(world: World, seen: Sequence[Seen]) -> list[dict[str, Any]]:
    """How often a scene is found by its true description."""
    ways = {"told": (1, False), "seen": (0, True), "both": (1, True), "both, every other untold": (2, True)}
    rows = []
    for name, (told, kept) in ways.items():
        memory = Memory(embed=lambda text: world.meaning(text).numpy())
        for i, scene in enumerate(seen):
            if kept:
                memory.keep(replace(evidence(world, scene.piece), start=10.0 * i, end=10.0 * i + 10))
            if told and i % told == 0:
                memory.add(Moment(10.0 * i, 10.0 * i + 10, scene.told))
        hits = []
        for scene in seen:
            best = [seen[int(m.start / 10)].caption == scene.caption for m in memory.find(scene.caption, 5)]
            hits.append((any(best[:1]), any(best)))
        at1, at5 = np.mean(hits, 0).round(4).tolist()
        rows.append({"by": name, "recall@1": at1, "recall@5": at5})
        print(rows[-1], flush=True)
    return rows


def asked(world: World, seen: Sequence[Seen]) -> list[dict[str, Any]]:
    """How often what a thing did is answered right, long after."""
    rng = np.random.default_rng(SEED)
    which = [int(rng.integers(len(s.events))) for s in seen]
    first = np.array([w == 0 for w in which])
    rows: list[dict[str, Any]] = []

    def add(name: str, right: Sequence[bool]) -> None:
        hits = np.array(right)
        shares = {"all": hits.mean(), "first": hits[first].mean(), "later": hits[~first].mean()}
        rows.append({"from": name} | {k: round(float(x), 4) for k, x in shares.items()})
        print(rows[-1], flush=True)

    def answered(contexts: Sequence[KVState]) -> list[bool]:
        right = []
        for scene, w, state in zip(seen, which, contexts, strict=True):
            name, action = scene.events[w]
            (made,) = answer(world, [state], noun(name), stop=Stop(12))
            right.append(made.text.split(THEN)[0] == action)
        return right

    claims = [f"{noun(s.events[w][0])} {s.events[w][1]}" for s, w in zip(seen, which, strict=True)]
    add("told", [claim in s.told.split(THEN) for claim, s in zip(claims, seen, strict=True)])
    now = [seen[(i + LATER) % len(seen)].context for i in range(len(seen))]
    add("now", answered(now))
    for most in BUDGETS:
        kept = [evidence(world, s.piece, most=most) for s in seen]
        tokens = round(float(np.mean([len(e.traces[0].x) for e in kept])), 1)
        for name, contexts in (
            ("beside", [beside(world, n, context_rows(k)) for n, k in zip(now, kept, strict=True)]),
            ("alone", [context(world, k) for k in kept]),
        ):
            add(f"{name}, {tokens} tokens", answered(contexts))
    return rows


def context_rows(kept: Any) -> torch.Tensor:
    """The tokens of one sense that are kept [N, D]."""
    return torch.from_numpy(kept.traces[0].x.astype(np.float32))


@torch.no_grad()
def beside(world: World, now: KVState, x: torch.Tensor) -> KVState:
    """A context that goes on with these tokens."""
    state = now.fork()
    world.backbone(x[None], Mask("blocks", (1,) * len(x)), state)
    return state


def retold(world: World, clips: dict[str, Callable[[np.random.Generator], Rendered]], n: int) -> list[dict[str, Any]]:
    """Captions made anew from what is kept."""
    rows = []
    for name, draw in clips.items():
        items = [draw(np.random.default_rng((SEED, i))) for i in range(n)]
        held = [perceived(world, item) for item in items]
        row: dict[str, Any] = {"kind": name, "as it was": share(world, items, [state for _, state in held])}
        for most in BUDGETS:
            kept = [context(world, evidence(world, piece, most=most)) for piece, _ in held]
            row["all" if most == max(BUDGETS) else str(most)] = share(world, items, kept)
        rows.append(row)
        print(row, flush=True)
    return rows


def share(world: World, items: Sequence[Rendered], contexts: Sequence[KVState]) -> float:
    said = answer(world, contexts)
    return round(float(np.mean([made.text == item.caption for made, item in zip(said, items, strict=True)])), 4)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--scenes", type=int, default=1000, help="of `found`; `asked` and `retold` take a fifth")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    world = load(args.model)
    seen, fewer = drawn(world, args.scenes), args.scenes // 5
    figures = {"found": found(world, seen), "asked": asked(world, seen[:fewer]), "retold": retold(world, KINDS, fewer)}
    if args.json:
        write(args.json, model=args.model, scenes=args.scenes, **figures)


if __name__ == "__main__":
    main()
