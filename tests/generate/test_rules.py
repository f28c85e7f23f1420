"""Rules of decoding against transformers' `generate` on tiny weights, and against the definition of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_decode import Table
from torch import Tensor

from mmworld.errors import UsageError
from mmworld.generate.beam import Beam
from mmworld.generate.decode import complete, decode
from mmworld.generate.rules import Forced, Frequency, Never, NoRepeat, Prefix, Repetition, Rule, Suppress, ruled
from mmworld.generate.samplers import Greedy, Sample, Sampler
from mmworld.generate.stop import Stop
from mmworld.models.zoo.parity.case import both
from mmworld.models.zoo.parity.text import DECODERS
from mmworld.nn.state import KVState, Row

N = 24
IDS = st.lists(st.integers(0, 5), max_size=8)
PREFIXES = st.builds(Prefix, IDS, IDS)


@dataclass(frozen=True)
class Numbers:
    """A vocabulary whose texts are their ids."""

    ends: tuple[int, ...] = ()

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))


@cache
def _models() -> tuple[Any, Any]:
    pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = both(DECODERS["llama"], Path(folder))
    ours.tokenizer = Numbers()
    return ours, theirs


@pytest.mark.parametrize(
    ("rules", "settings"),
    [
        ((), {}),
        ((Repetition(1.3),), {"repetition_penalty": 1.3}),
        ((NoRepeat(1),), {"no_repeat_ngram_size": 1}),
        ((NoRepeat(3),), {"no_repeat_ngram_size": 3}),
        ((Suppress((3, 8, 30)),), {"suppress_tokens": [3, 8, 30]}),
        ((Suppress(tuple(range(20)), first=1),), {"begin_suppress_tokens": list(range(20))}),
        ((Never(((7,), (3, 8), (1, 2, 3))),), {"bad_words_ids": [[7], [3, 8], [1, 2, 3]]}),
        ((Repetition(0.7), NoRepeat(2)), {"repetition_penalty": 0.7, "no_repeat_ngram_size": 2}),
    ],
)
@pytest.mark.parametrize("beams", [1, 3])
def test_texts_are_those_of_transformers(rules: tuple[Rule, ...], settings: dict[str, Any], beams: int) -> None:
    ours, theirs = _models()
    prompts = torch.randint(3, 40, (3, 7), generator=torch.Generator().manual_seed(1))
    ways = {"num_beams": beams, "max_new_tokens": N, "do_sample": False, "pad_token_id": 0, **settings}
    told = theirs.generate(prompts, attention_mask=torch.ones_like(prompts), **ways)[:, 7:]
    way = Greedy(rules) if beams == 1 else Beam(beams, 1.0, rules)
    said = complete(ours, prompts.tolist(), way, Stop(N))
    assert [list(g.ids) for g in said] == told.tolist()


@pytest.mark.parametrize("way", [Greedy, Sample, Beam])
def test_a_text_that_is_forced_begins_so(way: Any) -> None:
    ours, _ = _models()
    (said,) = complete(ours, [[5, 6]], way(rules=(Forced((9, 3, 3)),)), Stop(6))
    assert said.ids[:3] == (9, 3, 3)
    assert len(said.ids) == 6


@pytest.mark.parametrize("way", [Greedy, Sample, Beam])
def test_rules_that_leave_nothing_are_an_error(way: Any) -> None:
    ours, _ = _models()
    with pytest.raises(UsageError, match="leave no id"):
        complete(ours, [[5, 6]], way(rules=(Suppress(tuple(range(40))),)), Stop(6))


@given(st.lists(PREFIXES, min_size=1, max_size=4), st.integers(1, 4), st.integers(0, 99))
def test_each_rule_by_its_definition(texts: list[Prefix], n: int, seed: int) -> None:
    scores = torch.randn(len(texts), 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    before = scores.clone()
    never = Never(((2,), (1, 3), (0, 1, 4)))
    rules = [Repetition(1.5), Frequency(0.3, 0.5), NoRepeat(n), Suppress((1, 4), first=n), never]
    for rule in rules:
        got = rule(texts, scores)
        for i, text in enumerate(texts):
            for v in range(6):
                assert float(got[i, v]) == pytest.approx(expected(rule, text, v, float(before[i, v])), rel=1e-9)
    assert torch.equal(scores, before)


def expected(rule: Any, text: Prefix, v: int, score: float) -> float:
    ids = [*text.given, *text.said]
    grams = [tuple(ids[i:j]) for i in range(len(ids) + 1) for j in range(i, len(ids) + 1)]
    longer = [*ids, v]
    match rule:
        case Repetition(penalty):
            return score if v not in ids else score / penalty if score > 0 else score * penalty
        case Frequency(frequency, presence):
            return score - text.said.count(v) * frequency - (presence if v in text.said else 0)
        case NoRepeat(n):
            return -torch.inf if len(longer) >= n and tuple(longer[-n:]) in grams else score
        case Suppress(these, first):
            return -torch.inf if v in these and len(text.said) < first else score
        case Never(sequences):
            return -torch.inf if any(tuple(longer[-len(s) :]) == s for s in sequences) else score
    raise AssertionError(rule)


def spoken(table: Table, rules: tuple[Rule, ...], given: Sequence[int], text: Sequence[int]) -> float:
    """The sum of log p of a text after the rules."""
    total = 0.0
    for i, t in enumerate(text):
        log_p = table.logits(tuple(text[:i])).log_softmax(-1)[None]
        total += float(ruled(rules, [Prefix(given, text[:i])], log_p)[0, t])
    return total


@given(st.integers(0, 999), st.lists(st.integers(1, 2), max_size=3))
def test_a_wide_beam_finds_the_best_text_that_rules_allow(seed: int, given_ids: list[int]) -> None:
    table, rules = Table(3, seed), (NoRepeat(2), Suppress((0,), first=1))
    state = KVState(keys=[Row(torch.zeros(1, 0, dtype=torch.long))])
    (found,) = Beam(200, 1.0, rules).search(table.read, state, table.logits(())[None], [0], 3, [given_ids])
    texts = [
        (*body, *end) for k in range(4) for body in product((1, 2), repeat=k) for end in ([(0,)] if k < 3 else [()])
    ]
    best = max(texts, key=lambda t: spoken(table, rules, given_ids, t) / len(t))
    assert tuple(found[0]) == best


@torch.no_grad()
@pytest.mark.parametrize("way", [Greedy(), Sample(seed=2), Beam(2)])
def test_rows_of_a_batch_keep_to_their_own_texts(way: Sampler | Beam) -> None:
    ours, _ = _models()
    ours.tokenizer = Numbers(ends=tuple(range(12)))  # rows end at different times
    try:
        prompts = torch.randint(12, 40, (6, 5), generator=torch.Generator().manual_seed(2)).tolist()
        ruled_way = type(way)(rules=(NoRepeat(1), Repetition(2.0)))
        together = complete(ours, prompts, ruled_way, Stop(N))
        alone = [complete(ours, [p], ruled_way, Stop(N))[0] for p in prompts]
        assert [g.ids for g in together] == [g.ids for g in alone]
        assert len({len(g.ids) for g in together}) > 1
        assert all(len({*g.ids, *p}) == len(g.ids) + len(set(p)) for g, p in zip(together, prompts, strict=True))
    finally:
        ours.tokenizer = Numbers()


@torch.no_grad()
def test_scores_are_of_the_model_not_of_the_rules() -> None:
    ours, _ = _models()

    def begun() -> tuple[KVState, Tensor]:
        state = ours.init_state()
        return state, ours.read(torch.tensor([[5, 6]]), state)

    state, logits = begun()
    (free,) = decode(ours, state, logits, stop=Stop(1))
    state, logits = begun()
    (forced,) = decode(ours, state, logits, Greedy((Suppress(free.ids),)), Stop(1))
    log_p = logits[0].log_softmax(-1).sort(descending=True)
    assert forced.ids == (int(log_p.indices[1]),)
    assert forced.score == pytest.approx(float(log_p.values[1]))


@pytest.mark.parametrize("bad", [lambda: Repetition(0), lambda: NoRepeat(0), lambda: Never(((),))])
def test_rules_out_of_range(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|cannot"):
        bad()
