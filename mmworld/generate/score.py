"""How likely texts are, many for each item: what is perceived is read once, not once for each text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmworld.attention import CAUSAL
from mmworld.generate.decode import alike, prefill
from mmworld.models.world import Item, World
from mmworld.nn.state import KVState

BATCH = 32
"""Items encoded at once."""


@torch.no_grad()
def score_texts(world: World, items: Sequence[Item], texts: Sequence[str]) -> Tensor:
    """Log-probability of every text, <eos> included, for every item [items, texts], after the item's given ids.

    The same as `World.scores` on items that hold the text.
    """
    ids = [(*world.tokenizer.encode(t), world.tokenizer.eos) for t in texts]
    by_length = alike(map(len, ids))
    groups = [(members, torch.tensor([ids[i] for i in members], device=world.device)) for members in by_length]
    out = torch.empty(len(items), len(texts), device=world.device)
    for at in range(0, len(items), BATCH):
        for rows, state, logits in prefill(world, items[at : at + BATCH]):
            for row, item in enumerate(rows):
                for members, group in groups:
                    out[at + item, members] = _score(world, state, row, logits, group)
    return out


def _score(world: World, state: KVState, row: int, first: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities [R] of texts of one length, int64 [R, n], after what row `row` of the state has read."""
    state = state.fork()
    state.select(torch.full((len(ids),), row, device=ids.device))
    log_p = first[row].log_softmax(-1)[ids[:, 0]]
    if ids.shape[1] > 1:
        logits = world.logits(world.backbone(world.embed(ids[:, :-1]), CAUSAL, state))
        log_p = log_p + logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).sum((1, 2))
    return log_p
