"""Scenes: what is shown of a segment is what lies in it, whatever comes first, in whatever pieces; bounded, saved."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmworld.errors import LimitError, UsageError
from mmworld.models import scenes as module
from mmworld.models import snapshot
from mmworld.models.message import RATE
from mmworld.models.scenes import Scene, Scenes
from mmworld.stream.policy import AtEnd, Every, OnChange, Policy
from mmworld.types import Chunk, Gap, Takes

FPS = 4
TAKES = Takes(("video", "audio"), frames=64)


def picture(i: int) -> Tensor:
    """Uint8 [3, 8, 8]: bright on one side, by turns of a second and a quarter; its number in a corner."""
    x = torch.zeros(3, 8, 8, dtype=torch.uint8)
    x[..., 4 * (i // 5 % 2) :][..., :4] = 200
    x[0, 0, 0] = i
    return x


def film(seconds: float) -> Chunk:
    n = math.ceil(seconds * FPS)
    return Chunk(torch.stack([picture(i) for i in range(n)]), 0.0, n / FPS, "video")


def sound(seconds: float) -> Chunk:
    """Each sample says when it is: its number, from 1."""
    n = round(seconds * RATE)
    return Chunk(torch.arange(1, n + 1)[:, None].float(), 0.0, n / RATE, "audio")


def pieces(whole: Chunk, sizes: Sequence[int]) -> list[Chunk]:
    """The chunk in pieces of so many rows."""
    rate = FPS if whole.modality == "video" else RATE
    ends = itertools.accumulate((*sizes, len(whole.data)))
    at, out = 0, []
    for end in (min(e, len(whole.data)) for e in ends):
        if end > at:
            out.append(Chunk(whole.data[at:end], whole.start + at / rate, whole.start + end / rate, whole.modality))
        at = max(at, end)
    return out


def run(scenes: Scenes, items: Sequence[Chunk | Gap]) -> list[Scene]:
    found = [scene for item in items for scene in scenes.take(item)]
    return [*found, *scenes.finish()]


def fresh(policy: Policy, *names: str, takes: Takes = TAKES) -> Scenes:
    return Scenes(takes, names, policy.start(0.0))


def near(x: Scene | Chunk) -> tuple[float, float]:
    """Its times, without the last bits: a sum of other pieces' lengths has others."""
    return round(x.start, 9), round(x.end, 9)


def same(a: Sequence[Scene], b: Sequence[Scene]) -> bool:
    return [*map(near, a)] == [*map(near, b)] and all(
        len(x.parts) == len(y.parts)
        and all(
            (c.modality, *near(c)) == (d.modality, *near(d)) and torch.equal(c.data, d.data)
            for c, d in zip(x.parts, y.parts, strict=True)
        )
        for x, y in zip(a, b, strict=True)
    )


seconds = st.floats(0.3, 6.0)
frame_sizes = st.lists(st.integers(1, 9), max_size=12)
sound_sizes = st.lists(st.integers(1, 30_000), max_size=12)
policies = st.sampled_from([AtEnd(), Every(1.0), Every(0.7), OnChange(0.3, 0.5, 2.0), OnChange(0.3, 0.0, 30.0)])


@st.composite
def arrivals(draw: st.DrawFn, *streams: Chunk) -> list[Chunk]:
    """The streams cut anyhow, arriving in any order that keeps each one's own."""
    queues = [pieces(s, draw(frame_sizes if s.modality == "video" else sound_sizes)) for s in streams]
    out: list[Chunk] = []
    while any(queues):
        out.append(draw(st.sampled_from([q for q in queues if q])).pop(0))
    return out


@given(seconds, seconds, st.sampled_from([0.7, 1.0, 2.5]), st.data())
def test_what_is_shown_lies_in_its_segment(seen: float, heard: float, every: float, data: st.DataObject) -> None:
    """Computed from the streams: the frames that begin in [start, end), the samples that lie in it."""
    video, audio = film(seen), sound(heard)
    found = run(fresh(Every(every), "video", "audio"), data.draw(arrivals(video, audio)))
    assert [s.start for s in found] == pytest.approx([i * every for i in range(len(found))])
    last = max((len(video.data) - 1) / FPS, audio.end)
    assert last - found[-1].end <= every / 10 + 1e-6, "only a short rest is left out"
    for scene in found:
        frames = [i for i in range(len(video.data)) if scene.start - 1e-6 <= i / FPS < scene.end - 1e-6]
        first, after = (min(round(t * RATE), len(audio.data)) for t in (scene.start, scene.end))
        shown = {c.modality: c for c in scene.parts}
        assert [int(x[0, 0, 0]) for x in shown["video"].data] == frames if frames else "video" not in shown
        if first < after:
            assert torch.equal(shown["audio"].data, audio.data[first:after])
            assert shown["audio"].start == pytest.approx(first / RATE)
        else:
            assert "audio" not in shown


@given(seconds, seconds, policies, st.data())
def test_neither_pieces_nor_arrival_change_anything(
    seen: float, heard: float, policy: Policy, data: st.DataObject
) -> None:
    video, audio = film(seen), sound(heard)
    want = run(fresh(policy, "video", "audio"), [video, audio])
    assert same(run(fresh(policy, "video", "audio"), data.draw(arrivals(video, audio))), want)


def test_sound_is_cut_where_the_picture_changes() -> None:
    found = run(fresh(OnChange(0.3, 0.0, 30.0), "video", "audio"), [sound(2.5), film(2.5)])
    assert [(s.start, s.end) for s in found] == [(0.0, 1.25), (1.25, 2.5)]
    assert [len(s.parts[1].data) for s in found] == [1.25 * RATE] * 2


@given(seconds, seconds, policies, st.data())
def test_saved_anywhere_it_goes_on_as_if_nothing_had_been(
    tmp_path_factory: pytest.TempPathFactory, seen: float, heard: float, policy: Policy, data: st.DataObject
) -> None:
    """Through a file, with what a judge of changes has seen, and frames as the bytes that they are."""
    items = data.draw(arrivals(film(seen), sound(heard)))
    at, path = data.draw(st.integers(0, len(items))), tmp_path_factory.getbasetemp() / "scenes.safetensors"
    whole = fresh(policy, "video", "audio")
    found = [s for item in items[:at] for s in whole.take(item)]
    snapshot.write(path, "scenes", whole.leaves())

    def restored(values: Any) -> Scenes:
        frames = [x for n, x in values.items() if isinstance(x, Tensor) and x.ndim == 4]
        assert all(x.dtype == torch.uint8 for x in frames)
        ended = sum(len(c.data) for s in found for c in s.parts if c.modality == "video")
        assert len(frames) == sum(len(i.data) for i in items[:at] if i.modality == "video") - ended
        return Scenes.restored(TAKES, policy.start(0.0), values)

    other = snapshot.read(path, "scenes", restored)
    assert (other.clock, other.open, other.nbytes) == (whole.clock, whole.open, whole.nbytes)
    assert same([other.now()], [whole.now()])
    assert same([*found, *run(other, items[at:])], [*found, *run(whole, items[at:])])


@given(st.lists(st.integers(1, 30_000), max_size=8), st.floats(0.1, 3.0), st.sampled_from([Every(1.0), AtEnd()]))
def test_no_sound_is_joined_across_a_gap(sizes: list[int], missing: float, policy: Policy) -> None:
    """What follows a gap keeps its time: each sample says when it is, and between them it is silent."""
    before, n = pieces(sound(1.5), sizes), round(missing * RATE)
    start = 1.5 + n / RATE
    rest = Chunk(torch.arange(1, RATE + 1)[:, None].float() + 1.5 * RATE + n, start, start + 1.0, "audio")
    gap = Gap(1.5, start, "audio", "outage")
    found = run(fresh(policy, "audio"), [*before, gap, *pieces(rest, sizes)])
    for scene in found:
        (chunk,) = scene.parts
        at = round(chunk.start * RATE)
        there = chunk.data[:, 0].nonzero()[:, 0]
        assert torch.equal(chunk.data[there, 0], (there + at + 1).float())
        assert chunk.data[0, 0]
        assert chunk.data[-1, 0]
    heard = sum(int((s.parts[0].data != 0).sum()) for s in found)
    assert 2.5 * RATE - heard <= (0.1 * RATE + 1 if isinstance(policy, Every) else 0)


def test_a_gap_ends_nothing_and_begins_nothing() -> None:
    scenes = fresh(Every(1.0), "video")
    first, gap, then = pieces(film(0.5), [])[0], Gap(0.5, 5.25, "video", "outage"), pieces(film(0.5), [])[0]
    assert not list(scenes.take(Gap(0.0, 0.25, "video", "outage")))
    assert not list(scenes.take(first))
    assert [(s.start, s.end) for s in scenes.take(gap)] == [(0.0, 1.0)]
    assert scenes.now().empty
    later = Chunk(then.data, 5.25, 5.75, "video")
    assert [(s.start, s.end) for s in run(scenes, [later])] == [(5.0, 5.75)]


def test_a_day_without_a_word_costs_what_an_hour_does() -> None:
    takes, held = Takes(("image",), frames=2), []
    scenes = fresh(AtEnd(), "video", takes=takes)
    for i in range(24 * 360):
        assert not list(scenes.take(Chunk(picture(i % 256)[None], 10.0 * i, 10.0 * i + 10.0, "video")))
        held.append(scenes.nbytes)
    assert max(held) == max(held[:360]) <= module.SPARE * takes.frames * 3 * 8 * 8
    (scene,) = scenes.finish()
    assert (scene.start, scene.end, len(scene.parts)) == (0.0, 86_400.0, 2)


def test_sound_is_held_for_so_long_and_no_longer() -> None:
    scenes = fresh(AtEnd(), "audio", takes=Takes(("audio",)))
    minute = torch.zeros(1, 1).expand(60 * RATE, 1)
    ends = [s.end for i in range(25) for s in scenes.take(Chunk(minute, 60.0 * i, 60.0 * i + 60, "audio"))]
    assert ends == [module.LONGEST, 2 * module.LONGEST]
    assert scenes.nbytes == 5 * 60 * RATE * 4


def test_what_waits_for_a_stream_that_lags_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 1 << 20)
    scenes = fresh(Every(1.0), "video", "audio")
    with pytest.raises(LimitError, match="1 MiB wait for the stream 'video'"):
        run(scenes, pieces(sound(30.0), [RATE] * 30))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([Chunk(torch.zeros(1, 3, 2, 2), 0.0, 0.0, "image")], "wanted is video"),
        ([Chunk(torch.zeros(0), 0.0, 0.0, "video", last=True), Gap(0.0, 1.0, "video", "late")], "has ended"),
    ],
)
def test_what_was_not_announced_is_refused(items: list[Chunk | Gap], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(fresh(Every(1.0), "video"), items)


def test_stills_and_clouds_are_shown_beside_a_film() -> None:
    """As they are, and as many as the model takes of each."""

    def clouds() -> Iterator[Chunk]:
        for i in range(8):
            yield Chunk(torch.full((5, 3), float(i)), i / 4, (i + 1) / 4, "points")

    takes = Takes(("video", "points"), frames=2)
    scenes = Scenes(takes, ["video", "points"], AtEnd().start(0.0))
    (scene,) = run(scenes, [film(2.0), *clouds()])
    assert [(c.modality, len(c.data)) for c in scene.parts] == [("video", 2), ("points", 5), ("points", 5)]
    assert [float(c.data[0, 0]) for c in scene.parts[1:]] == [2.0, 6.0]
