"""Watcher: segments tile the time, what is shown of each is bounded and lies in it, whatever the pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
import torch
from clips import clip, number, sound_file, tone
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mmworld
from mmworld.errors import MediaError, UsageError
from mmworld.models.captioner import Failure
from mmworld.models.message import RATE, Message
from mmworld.models.scenes import Scene, Scenes
from mmworld.models.watcher import Watcher
from mmworld.nn.state import KVState
from mmworld.stream.policy import AtEnd, Every, OnChange, Policy
from mmworld.types import Caption, Chunk, Takes

END = 9


class Numbers:
    """What ends a text is 9; every other id is a digit."""

    ends = (END,)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(str, ids))


class Counter:
    """An assistant that is asked what it is shown, and says how many things that was."""

    tokenizer = Numbers()

    def __init__(self, takes: Takes) -> None:
        self.takes = takes
        self.asked: list[Sequence[Message]] = []

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        self.asked.append(messages)
        return KVState(), self._say(min(8, len(messages[0].parts)))

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        return self._say(END)

    def _say(self, i: int) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor([i]), 10).float() * 20


def film(seconds: float, fps: float) -> Iterator[Chunk]:
    for i in range(math.ceil(seconds * fps)):
        yield Chunk(torch.full((1, 3, 8, 8), i % 256, dtype=torch.uint8), i / fps, (i + 1) / fps, "video")


def sound(seconds: float, sizes: Sequence[int]) -> Iterator[Chunk]:
    data = torch.arange(round(seconds * RATE))[:, None].float()
    at = 0
    for n in [*sizes, len(data)]:
        piece = data[at : at + n]
        if len(piece):
            yield Chunk(piece, at / RATE, (at + len(piece)) / RATE, "audio")
        at += n


def cut(chunks: Iterator[Chunk], takes: Takes, policy: Policy, most: float = math.inf) -> list[Scene]:
    """The segments of one stream, of which never more than `most` bytes are held."""
    name = "audio" if "audio" in takes.senses else "video"
    scenes, found = Scenes(takes, [name], policy.start(0.0)), []
    for chunk in chunks:
        found += scenes.take(chunk)
        assert scenes.nbytes <= most
    return [*found, *scenes.finish()]


seconds = st.floats(0.1, 8.0)
policies = st.sampled_from([AtEnd(), Every(1.0), Every(0.7), Every(2.5)])


@given(seconds, policies, st.lists(st.integers(1, 20_000), max_size=30), st.sampled_from([1.5, 30.0, math.inf]))
def test_sound_is_cut_at_the_segments_ends(length: float, policy: Policy, sizes: list[int], most: float) -> None:
    found = cut(sound(length, sizes), Takes(("audio",), seconds=most), policy)
    assert [s.start for s in found][1:] == [s.end for s in found][:-1]
    told = [s.parts for s in found]
    heard = torch.cat([chunk.data for (chunk,) in told])[:, 0]
    assert torch.equal(heard, torch.arange(len(heard)).float())
    total = round(length * RATE)
    rest = min(policy.longest, 8.0) / 10 * RATE if len(found) > 0 else 0  # a short rest at the end is not spoken of
    assert total - rest - 1 <= len(heard) <= total
    assert all(s.end - s.start <= min(policy.longest, most) + 1e-6 for s in found)
    for (chunk,), s in zip(told, found, strict=True):
        assert abs(chunk.start - s.start) <= 1 / RATE


@given(seconds, policies, st.floats(0.5, 30.0), st.integers(1, 6))
def test_frames_shown_lie_evenly_in_their_segment(length: float, policy: Policy, fps: float, frames: int) -> None:
    takes = Takes(("video",), frames)
    for segment in cut(film(length, fps), takes, policy, most=4 * frames * 3 * 8 * 8):
        (shown,), end = segment.parts, segment.end
        assert 1 <= len(shown.data) <= frames
        times = [round(int(x[0, 0, 0])) / fps for x in shown.data]
        assert all(a < b for a, b in pairwise(times))
        assert segment.start - 1e-6 <= times[0] <= times[-1] < end
        there = sum(segment.start - 1e-6 <= i / fps < end - 1e-6 for i in range(math.ceil(length * fps)))
        if there >= 4 * frames and frames > 1:
            step = (end - segment.start) / frames
            for i, time in enumerate(times):
                assert abs(time - segment.start - (i + 0.5) * step) <= step


@given(st.integers(1, 4), policies)
def test_pictures_are_shown_one_by_one_to_a_model_without_films(frames: int, policy: Policy) -> None:
    for segment in cut(film(5.0, 8.0), Takes(("image",), frames), policy):
        shown = segment.parts
        assert {c.modality for c in shown} == {"image"}
        assert len(shown) <= frames
        assert all(len(c.data) == 1 for c in shown)


def test_a_change_of_the_picture_ends_a_segment() -> None:
    left, right = torch.zeros(2, 1, 3, 16, 16, dtype=torch.uint8)
    left[..., :8], right[..., 8:] = 200, 200
    chunks = [Chunk(left if i < 12 else right, i / 4, (i + 1) / 4, "video") for i in range(24)]
    found = cut(iter(chunks), Takes(("video",), 4), OnChange())
    assert [(s.start, s.end) for s in found] == [(0.0, 3.0), (3.0, 6.0)]


def test_a_film_with_sound_is_told_as_it_is_read() -> None:
    data = clip(50, fps=10, sound=tone(5.0))
    model = Counter(Takes(("video", "audio"), 4))
    captions = Watcher(model, Every(2.0)).caption(BytesIO(data))
    assert [(c.start, round(c.end, 1), c.text) for c in captions] == [(0, 2, "2"), (2, 4, "2"), (4, 5, "2")]
    shown = [m[0].parts[0] for m in model.asked]
    for (a, b), chunk in zip(((0, 20), (20, 40), (40, 50)), shown, strict=True):
        assert all(a <= number(x) < b for x in chunk.data)
    once = Watcher(Counter(Takes(("image",))), AtEnd(), prompt="seen:")
    assert [c.text for c in once.caption(BytesIO(data))] == ["seen: 1"]


def test_a_bad_input_does_not_stop_the_others() -> None:
    good = sound_file(tone(1.0))
    watcher = Watcher(Counter(Takes(("audio",))))
    made = list(watcher.stream_many([BytesIO(good), BytesIO(b"nothing of the kind"), BytesIO(good)]))
    assert [type(m) for m in made] == [Caption, Failure, Caption]
    with pytest.raises(MediaError, match="wanted is image"):
        Watcher(Counter(Takes(("image",)))).caption(BytesIO(good))


def test_what_cannot_be_asked_is_said() -> None:
    mute: Any = torch.nn.Linear(1, 1)
    with pytest.raises(UsageError, match="a Linear cannot be shown something and tell of it"):
        mmworld.caption(BytesIO(b""), model=mute)
