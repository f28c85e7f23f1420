"""Decoding with a cache against recomputing everything at each step, alone against in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toy import TOYS, stream, toy_world

from mmworld.generate.beam import Beam
from mmworld.generate.decode import answer, generate_many, pieces
from mmworld.generate.samplers import Sample
from mmworld.generate.stop import Stop
from mmworld.models.session import Session
from mmworld.models.world import Item, Packed, World
from mmworld.nn.state import KVState, Row

WORLD = toy_world(seed=5)
EOS = WORLD.tokenizer.eos


@st.composite
def items(draw: st.DrawFn) -> Item:
    names = draw(st.lists(st.sampled_from(sorted(TOYS)), unique=True, max_size=2))
    chunks = tuple(stream(n, draw(st.sampled_from([0.4, 1.0, 1.5])), seed=draw(st.integers(0, 9))) for n in names)
    given_ids = draw(st.lists(st.integers(3, 200), max_size=3))
    return Item(chunks, (1, *given_ids), loss_from=1 + len(given_ids))


def recompute(item: Item, max_tokens: int) -> tuple[list[int], list[float]]:
    """Greedy by definition: the whole item again for every id."""
    ids, log_p = list(item.ids), []
    while len(log_p) < max_tokens:
        p = WORLD([Item(item.chunks, (*ids, 0))])[-1].log_softmax(-1)
        ids.append(int(p.argmax()))
        log_p.append(float(p.max()))
        if ids[-1] == EOS:
            break
    return ids[len(item.ids) :], log_p


@torch.no_grad()
@given(st.lists(items(), min_size=1, max_size=5), st.integers(1, 3))
def test_a_batch_is_each_item_recomputed(batch: list[Item], size: int) -> None:
    got = generate_many(WORLD, batch, stop=Stop(6), batch=size)
    for g, item in zip(got, batch, strict=True):
        ids, log_p = recompute(item, 6)
        assert list(g.ids) == [i for i in ids if i != EOS]
        assert g.score == pytest.approx(sum(log_p) / len(log_p), rel=1e-4)


@pytest.mark.parametrize(("room", "tries"), [(9, [5]), (3, [5, 2, 3]), (2, [5, 2, 3]), (1, [5, 2])])
def test_a_batch_that_memory_does_not_hold_is_halved_once(
    monkeypatch: pytest.MonkeyPatch, room: int, tries: list[int]
) -> None:
    batch = [Item((stream("audio", 0.4, seed=i),), (1,)) for i in range(5)]
    expected = generate_many(WORLD, batch, stop=Stop(4))
    asked, pack = [], World.pack

    def full(world: World, streams: Any, texts: Any) -> Packed:
        asked.append(len(streams))
        if len(streams) > room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return pack(world, streams, texts)

    monkeypatch.setattr(World, "pack", full)
    if room > 2:
        assert [g.ids for g in generate_many(WORLD, batch, stop=Stop(4))] == [g.ids for g in expected]
    else:
        with pytest.raises(RuntimeError, match="allocate"):
            generate_many(WORLD, batch, stop=Stop(4))
    assert asked == tries


def test_contexts_that_memory_does_not_hold_are_halved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = []
    for seed in range(5):
        contexts.append(Session(WORLD, modalities=("audio",)))
        contexts[-1].feed(stream("audio", 0.4, seed=seed))
    states = [c.context for c in contexts]
    expected = answer(WORLD, states, stop=Stop(4))
    asked, stack = [], KVState.stack

    def full(rows: Sequence[KVState]) -> KVState:
        asked.append(len(rows))
        if len(rows) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return stack(rows)

    monkeypatch.setattr(KVState, "stack", full)
    assert [g.ids for g in answer(WORLD, states, stop=Stop(4))] == [g.ids for g in expected]
    assert asked == [5, 2, 3]


def test_other_errors_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any) -> Packed:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(World, "pack", wrong)
    with pytest.raises(RuntimeError, match="mat1"):
        generate_many(WORLD, [Item((), (1,))] * 4)


@torch.no_grad()
def test_rows_that_end_early_leave_the_others_alone() -> None:
    """A world that says <eos> often: lengths differ in the batch, each as if alone."""
    world = toy_world(seed=5)
    world.embedding[EOS] *= 3
    batch = [Item((stream("video", 1.0, seed=i),), (1,)) for i in range(24)]
    together = generate_many(world, batch, Sample(seed=1), Stop(20))
    assert len({len(g.ids) for g in together}) > 3
    assert [g.ids for g in together] == [generate_many(world, [i], Sample(seed=1), Stop(20))[0].ids for i in batch]


@torch.no_grad()
def test_the_reference_text_is_not_looked_at() -> None:
    item = WORLD.item([stream("audio", 1.0)], "it rains", prompt="two")
    other = WORLD.item([stream("audio", 1.0)], "a red ball", prompt="two")
    a, b = generate_many(WORLD, [item, other])
    assert a == b


@torch.no_grad()
def test_stop_strings_cut_the_text() -> None:
    item = Item((stream("video", 1.0),), (1,))
    (whole,) = generate_many(WORLD, [item], stop=Stop(12))
    word = whole.text[4:7]
    (cut,) = generate_many(WORLD, [item], stop=Stop(12, texts=(word,)))
    assert cut.text == whole.text[: whole.text.find(word)].strip()
    assert len(cut.ids) <= len(whole.ids)


class Table:
    """A language model that is a table: log-probabilities of the next id after each prefix."""

    def __init__(self, vocab: int, seed: int) -> None:
        self.vocab, self.seed = vocab, seed

    def logits(self, prefix: tuple[int, ...]) -> Tensor:
        g = torch.Generator().manual_seed(hash((self.seed, prefix)) % 2**31)
        return torch.randn(self.vocab, generator=g) * 2

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        state.keys[0].append(ids)
        return torch.stack([self.logits(tuple(row)) for row in state.keys[0].x.tolist()])

    def log_p(self, ids: tuple[int, ...]) -> float:
        return sum(float(self.logits(ids[:i]).log_softmax(-1)[t]) for i, t in enumerate(ids))


def run(table: Table, beam: Beam, rows: int, eos: int, n: int) -> list[tuple[list[int], list[float]]]:
    empty = torch.zeros(rows, 0, dtype=torch.long)
    return beam.search(table.read, KVState(keys=[Row(empty)]), table.logits(()).repeat(rows, 1), [eos], n)


@given(st.integers(0, 999), st.floats(0, 1))
def test_a_wide_beam_is_exhaustive_search(seed: int, penalty: float) -> None:
    table, vocab, eos, n = Table(3, seed), 3, 0, 3
    ids, log_p = run(table, Beam(200, penalty), 1, eos, n)[0]
    texts = [
        (*body, *end)
        for k in range(n + 1)
        for body in product(range(1, vocab), repeat=k)
        for end in ([(eos,)] if k < n else [()])
    ]
    best = max(texts, key=lambda t: table.log_p(t) / len(t) ** penalty)
    assert tuple(ids) == best
    assert sum(log_p) == pytest.approx(table.log_p(best), rel=1e-5)


@given(st.integers(0, 999))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    table, prefix = Table(5, seed), []
    while len(prefix) < 6 and (not prefix or prefix[-1] != 0):
        prefix.append(int(table.logits(tuple(prefix)).argmax()))
    assert run(table, Beam(1), 1, 0, 6)[0][0] == prefix


@torch.no_grad()
def test_beams_of_a_batch_are_those_of_each_item() -> None:
    batch = [Item((stream("video", 1.0, seed=i),), (1,)) for i in range(5)]
    together = generate_many(WORLD, batch, Beam(3), Stop(8))
    alone = [generate_many(WORLD, [i], Beam(3), Stop(8))[0] for i in batch]
    assert [g.ids for g in together] == [g.ids for g in alone]
    assert len({g.ids for g in together}) > 1


@given(st.text(max_size=20))
def test_pieces_add_up_and_cut_no_character(text: str) -> None:
    tok = WORLD.tokenizer
    ids = tok.encode(text)
    out = list(pieces(tok, [ids[: n + 1] for n in range(len(ids))]))
    assert "".join(out) == tok.decode(ids)
    if "�" not in text:
        assert not any("�" in p for p in out)


def test_stop_needs_room() -> None:
    with pytest.raises(ValueError, match="max_tokens"):
        Stop(0)
    assert replace(Stop(), max_tokens=3).max_tokens == 3
