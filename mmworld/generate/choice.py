"""One of several texts and nothing else: how likely the model would say each of them, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmworld.errors import UsageError
from mmworld.nn.state import KVState


@dataclass(frozen=True)
class Choice:
    """Texts of which one is said: how likely each of them is.

    All are read side by side after what the model has seen, whole and with what ends a text: so a text is not favoured
    because it is the beginning of another.
    """

    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts or not all(self.texts) or len(set(self.texts)) < len(self.texts):
            raise UsageError("choices must be one or more different texts, none of them empty")

    @torch.no_grad()
    def scores(self, model: Any, state: KVState, logits: Tensor) -> dict[str, float]:
        """Log-probability of each text.

        Args:
            model: a `Speaker` whose vocabulary encodes, too.
            state: of one row; it stays as it is.
            logits: [1, V] of the first id.

        Raises:
            UsageError: two texts are the same to the vocabulary, or one is nothing.
        """
        ids = [tuple(model.tokenizer.encode(text, whole=False)) for text in self.texts]
        if not all(ids) or len(set(ids)) < len(ids):
            raise UsageError("choices must be different texts to the model's vocabulary, none of them empty")
        found = _scores(model, state, logits, ids, sorted(model.tokenizer.ends))
        return dict(zip(self.texts, found, strict=True))


def _scores(
    model: Any, state: KVState, logits: Tensor, ids: Sequence[Sequence[int]], ends: Sequence[int]
) -> list[float]:
    """Log-probabilities of ids, and of any end behind them; a row that is over leaves the batch."""
    rows, out = list(range(len(ids))), [0.0] * len(ids)
    state, logits = state.fork(), logits.expand(len(ids), -1)
    state.select(torch.zeros(len(ids), dtype=torch.long, device=logits.device))
    for t in range(max(map(len, ids)) + 1):
        for log_p, i in zip(logits.double().log_softmax(-1), rows, strict=True):
            wanted = [ids[i][t]] if t < len(ids[i]) else ends
            out[i] += float(log_p[wanted].logsumexp(0)) if wanted else 0.0
        alive = [n for n, i in enumerate(rows) if t + (not ends) < len(ids[i])]
        if not alive:
            break
        rows = [rows[n] for n in alive]
        state.select(torch.tensor(alive, device=logits.device))
        logits = model.read(torch.tensor([[ids[i][t]] for i in rows], device=logits.device), state)
    return out
