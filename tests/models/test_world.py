"""World: packed equals one by one, order is by time, what is absent costs nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import TOYS, stream, toy_world

from mmworld.errors import ConfigError
from mmworld.models.world import UNTRAINED, Item

WORLD = toy_world()
texts = st.lists(st.integers(0, 299), min_size=1, max_size=6).map(tuple)


@st.composite
def items(draw: st.DrawFn) -> Item:
    names = draw(st.lists(st.sampled_from(sorted(TOYS)), unique=True, max_size=3))
    chunks = [
        stream(n, draw(st.floats(0.1, 2.5)), start=draw(st.floats(0, 3)), seed=draw(st.integers(0, 99))) for n in names
    ]
    return Item(tuple(chunks), draw(texts))


def one_by_one(item: Item) -> torch.Tensor:
    """The definition: blocks sorted in Python, each position computed with the dense rule."""
    blocks = []
    for chunk in item.chunks:
        tokens = WORLD.adapters[chunk.modality].encode(chunk)
        x = WORLD.observe(chunk.modality, tokens, item.origin)
        at = 0
        for n in tokens.blocks:
            blocks.append((round(float(tokens.end[at]), 6), chunk.modality, x[at : at + n]))
            at += n
    blocks.sort(key=lambda b: b[:2])
    text = [*WORLD.embed(torch.tensor(item.ids[:-1])).split(1)] if len(item.ids) > 1 else []
    row = [b[2] for b in blocks] + text
    if not text:
        return torch.zeros(0, WORLD.config.vocab)
    from mmworld.attention import Mask

    y = WORLD.backbone(torch.cat(row)[None], Mask("blocks", tuple(map(len, row))))[0]
    return WORLD.logits(y[-len(text) :])


@given(st.lists(items(), min_size=1, max_size=4))
def test_packed_is_one_by_one(batch: list[Item]) -> None:
    got = WORLD(batch)
    want = torch.cat([one_by_one(i) for i in batch])
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_absent_modality_is_not_run_and_shared_chunks_run_once() -> None:
    shared = stream("video", 1.0)
    before = {n: a.runs for n, a in WORLD.adapters.items()}
    WORLD([Item((shared,), (1, 5, 2)), Item((shared,), (1, 6, 2))])
    assert {n: a.runs - before[n] for n, a in WORLD.adapters.items()} == {"audio": 0, "points": 0, "video": 1}


def test_the_future_does_not_enter() -> None:
    """The first text token sees all media; a media block sees none after it: a later block changes text only."""
    a, b = stream("video", 2.0, seed=1), stream("audio", 1.0, seed=2)
    long = WORLD.pack([(a, b)], [(1,)])
    c = stream("video", 1.5, seed=1)  # the first three blocks of `a`, same samples
    torch.testing.assert_close(c.data, a.data[:12])
    short = WORLD.pack([(c, b)], [(1,)])
    y_long = WORLD.backbone(long.x[None], long.mask)[0]
    y_short = WORLD.backbone(short.x[None], short.mask)[0]
    n = len(short.x) - 1
    torch.testing.assert_close(y_long[:n], y_short[:n])
    assert not torch.allclose(y_long[-1], y_short[-1])


def test_targets_and_scores() -> None:
    batch = [Item((stream("audio", 1.0),), (1, 4, 5, 2), loss_from=2), Item((), (1, 7, 2))]
    assert WORLD.targets(batch).tolist() == [UNTRAINED, 5, 2, 7, 2]
    log_p = WORLD(batch).log_softmax(-1)
    want = [log_p[1, 5] + log_p[2, 2], log_p[3, 7] + log_p[4, 2]]
    torch.testing.assert_close(WORLD.scores(batch), torch.stack(want))


def test_every_parameter_learns() -> None:
    world = toy_world(seed=3)
    batch = [world.item([stream(n, 1.5) for n in TOYS], "a red ball")]
    torch.nn.functional.cross_entropy(world(batch), world.targets(batch)).backward()
    assert [n for n, p in world.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_item_keeps_the_prompt_out_of_the_loss() -> None:
    item = WORLD.item([], "a red ball", prompt="two dogs")
    tok = WORLD.tokenizer
    assert item.ids == (tok.bos, *tok.encode("two dogs"), *tok.encode("a red ball"), tok.eos)
    assert item.loss_from == 1 + len(tok.encode("two dogs"))


def test_unknown_modality() -> None:
    chunk = stream("audio", 1.0)
    object.__setattr__(chunk, "modality", "smell")
    with pytest.raises(ConfigError, match="no adapter for smell"):
        WORLD([Item((chunk,), (1, 2))])
