"""AsTrained: segments end where a head's equations say, whatever the chunks, and gone on with at any point."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from test_captioner import WORLD, captioner, same, source
from toy import TOYS, cut, stream

from mmworld.errors import CheckpointError, ConfigError
from mmworld.models import snapshot
from mmworld.models.speakhead import HEAD, KIND, AsTrained, SpeakHead, SpeakHeadConfig
from mmworld.models.world import WEIGHTS
from mmworld.stream.ops import merge
from mmworld.types import Chunk, Gap
from mmworld.weights.checkpoint import load_safetensors, save_tensors
from mmworld.weights.shards import revision

SHORTEST, LONGEST, THRESHOLD = 0.35, 2.0, 0.5


def make(seed: int = 0, dim: int = 8) -> SpeakHead:
    """A head with random weights whose log-odds go up and down around zero."""
    torch.manual_seed(seed)
    head = SpeakHead(SpeakHeadConfig({"audio": dim, "video": dim}, 4, 6)).requires_grad_(False)
    for p in head.parameters():
        p.mul_(3.0)
    for name in head.config.dims if dim == 8 else ():
        tokens = WORLD.adapters[name].encode(stream(name, 10.0)).x.detach()
        seen = head.look(name, tokens.unflatten(0, (-1, TOYS[name].tokens)))
        head.says.bias -= head(seen, torch.zeros(1, 6))[0].median() / 2
    return head


def policy(seed: int = 0) -> AsTrained:
    return AsTrained(make(seed), THRESHOLD, SHORTEST, LONGEST)


def probabilities(head: SpeakHead, whole: list[Chunk]) -> list[tuple[float, float]]:
    """The end of each block and what the head gives then, in float64: a GRU, as torch's page writes it, over the blocks
    by their ends and names."""
    w = {n: x.double().numpy() for n, x in head.state_dict().items()}
    blocks = []
    for chunk in whole:
        if chunk.modality in head.config.dims:
            with torch.no_grad():
                tokens = WORLD.adapters[chunk.modality].encode(chunk)
            per = tokens.blocks[0]
            x = tokens.x.double().numpy().reshape(-1, per, tokens.x.shape[1])
            blocks += [(round(e, 6), chunk.modality, b) for e, b in zip(tokens.end[::per].tolist(), x, strict=True)]
    h, out = np.zeros(6), []
    for end, name, block in sorted(blocks, key=lambda b: b[:2]):
        y = block @ w[f"reads.{name}.weight"].T + w[f"reads.{name}.bias"]
        y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
        a = w["remembers.weight_ih_l0"] @ np.concatenate((y.mean(0), y.max(0))) + w["remembers.bias_ih_l0"]
        b = w["remembers.weight_hh_l0"] @ h + w["remembers.bias_hh_l0"]
        r, z = (1 / (1 + np.exp(-(a[i : i + 6] + b[i : i + 6]))) for i in (0, 6))
        h = (1 - z) * np.tanh(a[12:] + r * b[12:]) + z * h
        out.append((end, float(1 / (1 + np.exp(-(w["says.weight"][0] @ h + w["says.bias"][0]))))))
    return out


def ends(said: list[tuple[float, float]], until: float) -> list[float]:
    """Where segments end before `until`: at the first block over the threshold after one under it since the last such,
    SHORTEST after the last end at the earliest; LONGEST after it at the latest."""
    out, begun, waits = [0.0], 0.0, True
    for end, p in [*(b for b in said if b[0] <= until + 1e-6), (until, 0.0)]:
        while begun + LONGEST < end - 1e-6:
            begun += LONGEST
            out.append(begun)
        if p < THRESHOLD:
            waits = True
        elif waits and end >= begun + SHORTEST - 1e-6:
            begun, waits = end, False
            out.append(end)
        elif end >= begun + LONGEST - 1e-6:
            begun = end
            out.append(end)
    return [e for e in out[1:] if e < until - 1e-6]


lengths = st.dictionaries(st.sampled_from(["video", "audio"]), st.floats(0.5, 8.0), min_size=1)
seeds = st.integers(0, 50)


def wholes(seconds: dict[str, float], seed: int) -> list[Chunk]:
    return [stream(n, s, seed=seed + i) for i, (n, s) in enumerate(sorted(seconds.items()))]


@given(seeds, st.floats(0.5, 12.0), st.sampled_from(["video", "audio"]))
def test_segments_end_where_the_equations_say(seed: int, seconds: float, name: str) -> None:
    whole = stream(name, seconds, seed=seed)
    said = probabilities(make(seed), [whole])
    assume(all(abs(p - THRESHOLD) > 1e-4 for _, p in said))
    found = [s.end for s in captioner(policy(seed)).begin([name]).take(whole)]
    assert found[:-1] == pytest.approx(ends(said, whole.end), abs=1e-6)
    assert found[-1] == pytest.approx(whole.end, abs=1e-6)


def test_of_two_senses_all_that_ends_by_then_is_told_of() -> None:
    whole = wholes({"video": 20.0, "audio": 20.0}, 3)
    said = probabilities(make(1), whole)
    assert min(abs(p - THRESHOLD) for _, p in said) > 1e-5
    segments = captioner(policy(1)).begin(["video", "audio"])
    found = [s for c in whole for s in segments.take(c)]
    over = [(end, p >= THRESHOLD) for end, p in said]
    rises = [b[0] for a, b in pairwise([(0.0, False), *over]) if b[1] and not a[1]]
    assert len(set(rises)) > 10
    early = [s for s in found[:-1] if s.end - s.start < LONGEST - 1e-6]
    assert early
    for s in early:
        assert any(abs(s.end - end) < 1e-6 for end, high in over if high)
    for s in found:
        within = [
            sum(s.start + 1e-6 < n * TOYS[name].hop <= s.end + 1e-6 for n in range(1, 301))
            for name in ("video", "audio")
        ]
        assert len(s.context.blocks) == sum(within)


@given(seeds, lengths, st.data())
def test_captions_do_not_depend_on_the_chunks(seed: int, seconds: dict[str, float], data: st.DataObject) -> None:
    whole = wholes(seconds, seed)
    want = captioner(policy(seed)).caption(source(*whole))
    sizes = st.lists(st.integers(0, 20), max_size=8)
    pieces = [cut(c, data.draw(sizes)) for c in whole]
    assert same(captioner(policy(seed)).caption(source(*merge(*pieces), live=data.draw(st.booleans()))), want)
    in_turn = [p for one in (pieces if data.draw(st.booleans()) else reversed(pieces)) for p in one]
    assert same(captioner(policy(seed)).caption(source(*in_turn, live=True)), want)


@given(seeds, st.floats(1.0, 8.0), st.floats(0.1, 1.0))
def test_what_comes_later_changes_nothing(seed: int, seconds: float, part: float) -> None:
    whole = stream("video", seconds, seed=seed)
    n = max(1, round(part * len(whole.data)))
    early = Chunk(whole.data[:n], 0.0, n / TOYS["video"].rate, "video", last=True)
    found, sooner = ([s.end for s in captioner(policy(seed)).begin(["video"]).take(c)] for c in (whole, early))
    whole_blocks = math.floor(early.end / TOYS["video"].hop + 1e-6) * TOYS["video"].hop
    assert [e for e in found if e < whole_blocks - 1e-6] == [e for e in sooner if e < whole_blocks - 1e-6]


@given(seeds, st.integers(0, 10), st.lists(st.integers(1, 20), min_size=2, max_size=10))
def test_saved_at_any_point_it_goes_on(seed: int, at: int, sizes: list[int]) -> None:
    pieces = list(merge(cut(stream("video", 6.0, seed=seed), sizes), cut(stream("audio", 6.0, seed=seed), sizes)))
    want, first = (captioner(policy(seed)).begin(["video", "audio"]) for _ in range(2))
    told = [(s.start, s.end) for p in pieces for s in want.take(p)]
    said = [(s.start, s.end) for p in pieces[:at] for s in first.take(p)]
    rest = captioner(policy(seed)).restored(first.leaves())
    assert said + [(s.start, s.end) for p in pieces[at:] for s in rest.take(p)] == told


def test_what_it_remembers_is_saved(tmp_path: Path) -> None:
    judge = policy().start(0.0)
    g = torch.Generator().manual_seed(0)
    for i in range(20):
        judge.changed("video", torch.randn(3, 8, generator=g), i / 2)
    snapshot.write(tmp_path / "a", "judge", snapshot.leaves(judge, "judge"))
    again = snapshot.read(tmp_path / "a", "judge", lambda v: snapshot.restore(policy().start(0.0), v, "judge"))
    assert torch.equal(again.past, judge.past)
    assert (again.due, again.waits, again.begun) == (judge.due, judge.waits, judge.begun)


def test_it_speaks_as_soon_as_the_block_is_there() -> None:
    """No block after the one that has it speak is waited for."""
    whole = stream("video", 20.0, seed=2)
    segments = captioner(policy(2)).begin(["video"])
    n, pieces = 0, [replace(c, last=False) for c in cut(whole, [1] * 160)]
    for piece in pieces:
        for s in segments.take(piece):
            n += s.end - s.start < LONGEST - 1e-6
            assert s.end == pytest.approx(piece.end, abs=1e-6)
    assert n > 3


def test_of_what_it_does_not_know_it_tells_after_the_longest_time() -> None:
    alone = captioner(policy()).begin(["points"])
    assert [s.end for s in alone.take(stream("points", 5.0))] == pytest.approx([2.0, 4.0, 5.0])
    assert policy().timed(["points"])
    assert not policy().timed(["points", "video"])
    both = [stream("points", 5.0), stream("video", 5.0, seed=1)]
    with_points, alone = captioner(policy()).begin(["points", "video"]), captioner(policy()).begin(["video"])
    found = [s.end for c in both for s in with_points.take(c)]
    assert found == [s.end for s in alone.take(both[1])]


def test_a_gap_is_no_block() -> None:
    judge = policy().start(0.0)
    before = judge.past
    judge.hear(Gap(1.0, 4.0, "video", "slow"), 8.0)
    assert judge.past is before
    assert judge.due == LONGEST


def test_a_head_comes_back_from_its_file(tmp_path: Path) -> None:
    head = make()
    head.save(tmp_path / HEAD, {"model": "0"})
    again = SpeakHead.load(tmp_path)
    assert again.config == head.config
    assert all(torch.equal(x, head.state_dict()[n].half().float()) for n, x in again.state_dict().items())
    assert not any(p.requires_grad for p in again.parameters())
    assert AsTrained(tmp_path).start(0.0).threshold == head.config.threshold


def test_a_model_without_a_head_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{tmp_path}: this model has no listen/speak head") as e:
        AsTrained(tmp_path)
    assert "\n" not in str(e.value)
    with pytest.raises(CheckpointError, match="no model"):
        AsTrained("nowhere")


@pytest.mark.parametrize(
    "told",
    [
        None,
        "no",
        "[]",
        '{"config": {}, "about": {"model": ""}}',
        '{"config": {"dims": {"video": 8}, "hidden": 0}, "about": {"model": ""}}',
        '{"config": {"dims": {"video": 8}}, "about": []}',
        '{"config": {"dims": {"vi.deo": 8}}, "about": {"model": ""}}',
    ],
)
def test_a_file_that_is_no_head(told: str | None, tmp_path: Path) -> None:
    make().save(tmp_path / HEAD, {})
    save_tensors(make().state_dict(), tmp_path / HEAD, {} if told is None else {KIND: told})
    with pytest.raises(CheckpointError, match=HEAD):
        SpeakHead.load(tmp_path)


def test_a_head_of_another_size_than_its_file(tmp_path: Path) -> None:
    make().save(tmp_path / HEAD, {})
    tensors: Any = load_safetensors(tmp_path / HEAD)
    told = {"dims": {"audio": 8, "video": 8}, "width": 4, "hidden": 7}
    save_tensors(tensors, tmp_path / HEAD, {KIND: json.dumps({"config": told, "about": {"model": ""}})})
    with pytest.raises(CheckpointError, match="shape"):
        SpeakHead.load(tmp_path)


def test_a_head_of_other_weights_is_refused(tmp_path: Path) -> None:
    save_tensors({"a": torch.zeros(1)}, tmp_path / WEIGHTS)
    make().save(tmp_path / HEAD, {"model": revision(tmp_path)})
    SpeakHead.load(tmp_path)
    save_tensors({"a": torch.ones(1)}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="trained with other weights"):
        SpeakHead.load(tmp_path)


def test_a_head_of_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="reads video tokens of width 16, this model's have 8"):
        captioner(AsTrained(make(dim=16))).caption(source(stream("video", 1.0)))


@pytest.mark.parametrize(("name", "value"), [("threshold", 0.0), ("threshold", math.nan), ("shortest", 5.0)])
def test_values_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        replace(policy(), **{name: value})
