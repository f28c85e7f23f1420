"""Beam search: several texts are kept at once and the best complete one wins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmworld.generate.rules import Prefix, Rule, ruled, stuck
from mmworld.nn.state import KVState

Text = tuple[list[int], list[float]]
"""Ids and their log-probabilities."""


@dataclass(frozen=True)
class Beam:
    """Keep the `width` likeliest texts (Graves 2012); complete ones compete by sum(log p) / n ** length_penalty.

    The exponent is that of Wu et al. 2016, eq. 14, on the plain length; 0 prefers short texts, 1 is the mean.

    Attributes:
        rules: what log p goes through before texts compete.
    """

    width: int = 3
    length_penalty: float = 0.7
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, is {self.width}")

    def search(
        self,
        read: Callable[[Tensor, KVState], Tensor],
        state: KVState,
        logits: Tensor,
        ends: Collection[int],
        max_tokens: int,
        given: Sequence[Sequence[int]] | None = None,
    ) -> list[Text]:
        """The best text for each row of `state` and `logits` [B, V], the id that ends it included if it got that far.

        Args:
            read: appends ids [B, 1] to the state and gives the next logits [B, V].
            ends: ids after which a text is over.
            given: what the rows' prompts say, for the rules.

        Raises:
            UsageError: the rules leave a row no text.
        """
        searches = [_Search(self, ids) for ids in given or [()] * len(logits)]
        active = searches
        for step in range(max_tokens):
            parents, ids, still = [], [], []
            texts = [Prefix(s.given, ids) for s in active for ids, _ in s.beams]
            log_p = ruled(self.rules, texts, logits.log_softmax(-1)).cpu()
            at = 0
            for s in active:
                n = len(s.beams)
                chosen = s.step(log_p[at : at + n], ends, last=step == max_tokens - 1)
                parents += [at + p for p, _ in chosen]
                ids += [i for _, i in chosen]
                at += n
                if chosen:
                    still.append(s)
            active = still
            if not active:
                break
            state.select(torch.tensor(parents, device=logits.device))
            logits = read(torch.tensor(ids, device=logits.device)[:, None], state)
        return [s.best() for s in searches]


@dataclass
class _Search:
    """One row's beams."""

    rule: Beam
    given: Sequence[int]
    beams: list[Text] = field(default_factory=lambda: [([], [])])
    done: list[tuple[float, Text]] = field(default_factory=list)

    def step(self, log_p: Tensor, ends: Collection[int], last: bool) -> list[tuple[int, int]]:
        """Extend the beams by log_p [beams, V]; returns (parent, id) of those that go on, none when the search ends."""
        sums = torch.tensor([sum(p) for _, p in self.beams])[:, None] + log_p
        best = sums.flatten().topk(min(2 * self.rule.width, sums.numel())).indices.tolist()
        grown: list[tuple[int, int]] = []
        beams: list[Text] = []
        for rank, (parent, i) in enumerate(divmod(b, log_p.shape[1]) for b in best):
            if log_p[parent, i] == -torch.inf:
                break
            ids, p = self.beams[parent]
            text = ([*ids, i], [*p, float(log_p[parent, i])])
            if i in ends or last:
                if rank < self.rule.width:
                    self.done.append((self._score(text), text))
            elif len(beams) < self.rule.width:
                beams.append(text)
                grown.append((parent, i))
        self.beams = beams
        return grown if len(self.done) < self.rule.width else []

    def best(self) -> Text:
        if not self.done:
            raise stuck()
        return max(self.done, key=lambda d: d[0])[1]

    def _score(self, text: Text) -> float:
        return sum(text[1]) / len(text[1]) ** self.rule.length_penalty
