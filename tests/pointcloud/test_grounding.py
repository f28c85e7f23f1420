"""Boxes of what texts name: laws of the network, matching by brute force, and what is learned of rendered rooms."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from mmworld.errors import UsageError
from mmworld.modalities.pointcloud.boxes import iou
from mmworld.modalities.pointcloud.pointnet2 import single
from mmworld.models.zoo.grounding3d import Found, Grounder, GroundingConfig, ground_points
from mmworld.render.rooms import THINGS, Room, room
from mmworld.render.words import COLOURS
from mmworld.text.pretrained import Pretrained
from mmworld.train.grounding import Things, loss, match

SEEDS = st.integers(0, 2**32)
WORDS = ("[UNK]", *COLOURS, *THINGS)


def vocabulary() -> Pretrained:
    core = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return Pretrained(core, frozenset())


def grounder(scale: int = 1) -> Grounder:
    text = {"model_type": "bert", "vocab_size": len(WORDS), "max_position_embeddings": 8, "hidden_size": 32}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    levels = single(48 * scale, 0.25, 16, 32, 64), single(24 * scale, 0.5, 16, 64, 96)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Grounder(GroundingConfig(text, levels, dim=64, encoder=1, queries=16 * scale))
    model.tokenizer = vocabulary()
    return model


@torch.no_grad()
@given(SEEDS, st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_a_cloud_is_grounded_alike_in_any_company_and_wherever_it_lies(seed: int, phrases: list[int]) -> None:
    model, draw = grounder().double().eval(), torch.Generator().manual_seed(seed)
    points = torch.rand(2, 60, 6, dtype=torch.float64, generator=draw)
    told = model.read([torch.randint(len(WORDS), (n,), generator=draw).tolist() for n in phrases])
    other = model.read([[1, 2]])
    (alone,) = model(points[:1], [told])
    found, _ = model(points, [told, other])
    torch.testing.assert_close(found.boxes, alone.boxes)
    torch.testing.assert_close(found.logits, alone.logits)
    assert alone.logits.shape == (16, len(phrases) + 1)
    away = torch.tensor([3.0, -2.0, 1.0, 0, 0, 0]).double()
    (moved,) = model(points[:1] + away, [told])
    torch.testing.assert_close(moved.boxes, alone.boxes + torch.nn.functional.pad(away[:3], (0, 4)))
    torch.testing.assert_close(moved.logits, alone.logits)


def boxes(n: int, draw: torch.Generator) -> torch.Tensor:
    return torch.rand(n, 7, dtype=torch.float64, generator=draw) + 0.2


@given(SEEDS, st.integers(1, 5), st.integers(0, 4))
def test_things_are_matched_at_the_least_cost(seed: int, queries: int, things: int) -> None:
    things, draw = min(things, queries), torch.Generator().manual_seed(seed)
    found = Found(boxes(queries, draw), torch.randn(queries, 4, dtype=torch.float64, generator=draw))
    there = Things(boxes(things, draw), torch.randint(3, (things,), generator=draw))

    def cost(q: int, k: int) -> float:
        a, b = found.boxes[q], there.boxes[k]
        doublings = (a[3:6] / b[3:6]).log2().abs().mean()
        turn = (1 - (2 * (a[6] - b[6])).cos()) * (b[3] / b[4]).log2().abs()
        return float((a[:3] - b[:3]).norm() + doublings + turn - found.logits[q].softmax(0)[there.phrase[k]])

    query, thing = match(found, there)
    assert sorted(thing.tolist()) == list(range(things))
    got = sum(cost(q, k) for q, k in zip(query.tolist(), thing.tolist(), strict=True))
    least = min(sum(cost(q, k) for k, q in enumerate(order)) for order in permutations(range(queries), things))
    assert abs(got - least) < 1e-9


def test_what_is_right_costs_nothing_and_half_a_turn_neither() -> None:
    there = Things(boxes(2, torch.Generator().manual_seed(0)), torch.tensor([1, 0]))
    named = 100 * torch.nn.functional.one_hot(torch.tensor([1, 0]), 3).double()
    assert loss([Found(there.boxes, named)], [there]).item() < 1e-6
    turned = there.boxes + torch.tensor([0, 0, 0, 0, 0, 0, torch.pi]).double()
    assert loss([Found(turned, named)], [there]).item() < 1e-6
    assert loss([Found(there.boxes.flip(0), named)], [there]).item() > 0.1


def test_what_cannot_be_grounded_is_refused() -> None:
    model = grounder().eval()
    cloud = room(np.random.default_rng(0)).points
    found = ground_points(cloud, ["red cube", "blue cone"], model)
    assert [f.text for f in found] == ["red cube", "blue cone"]
    assert all(bool((f.scores.diff() <= 0).all()) and f.boxes.shape == (16, 7) for f in found)
    assert ground_points(cloud, [], model) == []
    with pytest.raises(UsageError, match="'' names nothing"):
        ground_points(cloud, [""], model)
    with pytest.raises(UsageError, match=r"shape \[9, 3\], the model reads \[P, 6\]"):
        ground_points(torch.rand(9, 3), ["red cube"], model)
    model.tokenizer = None
    with pytest.raises(UsageError, match="vocabulary"):
        ground_points(cloud, ["red cube"], model)


def steps(model: Grounder, n: int, batch: int) -> None:
    rng = np.random.default_rng(1)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, n, pct_start=0.1)
    for _ in range(n):
        rooms = [room(rng, points=512) for _ in range(batch)]
        told = [model.read([model.tokenizer.encode(name) for name in r.names]) for r in rooms]
        found = model(torch.stack([r.points for r in rooms]), told)
        optimiser.zero_grad()
        loss(found, [Things(r.boxes, torch.arange(len(r.names))) for r in rooms]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()


def overlaps(model: Grounder, rooms: list[Room]) -> torch.Tensor:
    """Of the likeliest box of each phrase with the box of each thing: [rooms, phrases, things]."""
    found = [(ground_points(r.points, r.names, model), r.boxes) for r in rooms]
    return torch.stack([iou(torch.stack([f.boxes[0] for f in told]), boxes) for told, boxes in found])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_things_of_unseen_rooms_are_found_by_their_names() -> None:
    model = grounder(scale=4)
    rng = np.random.default_rng(99)
    rooms = [room(rng, points=512) for _ in range(40)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        steps(model.train(), 300, 8)
    right = overlaps(model.eval(), rooms) >= 0.25
    hits = right.diagonal(dim1=1, dim2=2).double().mean()
    blind = right.any(2).double().mean() / 3  # were a thing found without heed to its name
    assert hits >= 0.6
    assert hits >= 1.5 * blind
