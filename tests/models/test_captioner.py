"""Captioner: the captions are those of the segments, whatever the chunks; side by side as one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import TOYS, cut, stream, toy_world

from mmworld.errors import MediaError, UsageError
from mmworld.generate.stop import Stop
from mmworld.models.captioner import Captioner, Failure
from mmworld.models.opening import Opened
from mmworld.models.segments import Segment
from mmworld.stream.ops import merge
from mmworld.stream.policy import AtEnd, Every, OnChange, Policy
from mmworld.types import Caption, Chunk

WORLD = toy_world(seed=5)


class Talker(Captioner):
    """Always has something to say: the sizes of the blocks it has seen."""

    def say(self, segments: Sequence[Segment], source: str) -> Iterator[Caption]:
        for s in segments:
            yield Caption(str(s.context.blocks), s.start, s.end, 0.0, source)


def captioner(policy: Policy) -> Captioner:
    return Captioner(WORLD, policy, stop=Stop(4))


def source(*chunks: Chunk, name: str = "toy", live: bool = False) -> Opened:
    return Opened(name, tuple({c.modality: None for c in chunks}), iter(chunks), live)


def wholes(seconds: dict[str, float], seed: int = 0) -> list[Chunk]:
    return [stream(n, s, seed=seed + i) for i, (n, s) in enumerate(sorted(seconds.items()))]


policies = st.sampled_from([AtEnd(), Every(1.0), Every(0.7), OnChange(0.6, 0.5, 2.0), OnChange(1.2, 0.0, 30.0)])
lengths = st.dictionaries(st.sampled_from(sorted(TOYS)), st.floats(0.2, 3), min_size=1)


def same(a: list[Caption], b: list[Caption]) -> bool:
    """Within a microsecond of time: sums of times differ in their last bits."""
    return [_rounded(c) for c in a] == [_rounded(c) for c in b]


def _rounded(c: Caption) -> Caption:
    return replace(c, score=0.0, start=round(c.start, 6), end=round(c.end, 6))


@given(lengths, policies, st.data())
def test_captions_do_not_depend_on_the_chunks(seconds: dict[str, float], policy: Policy, data: st.DataObject) -> None:
    whole = wholes(seconds)
    want = captioner(policy).caption(source(*whole))
    sizes = st.lists(st.integers(0, 20), max_size=6)
    pieces = list(merge(*(cut(c, data.draw(sizes)) for c in whole)))
    assert same(captioner(policy).caption(source(*pieces, live=data.draw(st.booleans()))), want)


@given(lengths, st.sampled_from([AtEnd(), Every(1.0), Every(0.7), OnChange(0.6, 0.5, 2.0)]))
def test_segments_tile_time(seconds: dict[str, float], policy: Policy) -> None:
    whole = wholes(seconds)
    captions = Talker(WORLD, policy).caption(source(*whole))
    assert captions[0].start == 0.0
    assert all(a.end == b.start for a, b in pairwise(captions))
    end = max(c.end for c in whole)
    rest = policy.seconds / 10 if isinstance(policy, Every) else 0.0
    assert end - rest - 1e-6 <= captions[-1].end <= end + 1e-6


def test_every_segment_is_captioned_as_if_nothing_came_before() -> None:
    """A memoryless check: the second segment's context holds its own blocks only, timed from its own start."""
    whole = stream("video", 3.0, seed=3)
    _, second, _ = captioner(Every(1.0)).caption(source(whole))
    assert (second.start, second.end) == (1.0, 2.0)
    tokens = WORLD.adapters["video"].encode(whole)
    n = sum(tokens.blocks[:2])
    x = WORLD.observe("video", tokens, origin=1.0)[n : 2 * n]
    from mmworld.attention import Mask
    from mmworld.generate.decode import decode
    from mmworld.nn.state import KVState

    state = KVState()
    with torch.no_grad():
        WORLD.backbone(x[None], Mask("blocks", tokens.blocks[2:4]), state)
        logits = WORLD.read(torch.tensor([WORLD.prompt()]), state)
        assert decode(WORLD, state, logits, stop=Stop(4))[0].text == second.text


def test_a_change_begins_a_segment() -> None:
    calm, wild = torch.zeros(16, 3), torch.full((16, 3), 9.0)
    data = torch.cat((calm, wild, calm))
    captions = Talker(WORLD, OnChange(0.5, 0.5)).caption(source(Chunk(data, 0.0, 6.0, "video", last=True)))
    assert [round(c.start, 3) for c in captions] == [0.0, 2.0, 4.0]


def test_a_silence_has_no_caption_and_costs_nothing() -> None:
    early = Chunk(torch.randn(5, 3), 0.0, 0.1, "audio")
    other = stream("video", 1.0, start=1e6)
    pieces = [early, Chunk(torch.zeros(0, 3), 1e6, 1e6, "audio", last=True), other]
    captions = Talker(WORLD, Every(0.5)).caption(source(*pieces))
    assert [(c.start, c.end) for c in captions] == [(0.0, 0.5), (1e6, 1e6 + 0.5), (1e6 + 0.5, 1e6 + 1.0)]


def test_captions_come_while_the_stream_runs() -> None:
    read = 0

    def chunks() -> Iterator[Chunk]:
        nonlocal read
        for chunk in cut(stream("audio", 100.0 / 5), [5] * 1000):
            read += 1
            yield chunk

    it = Talker(WORLD, Every(1.0)).stream(Opened("a", ("audio",), chunks(), live=True))
    next(it)
    assert read < 50
    it.close()


def test_an_error_comes_after_the_captions_before_it() -> None:
    def chunks() -> Iterator[Chunk]:
        yield from cut(stream("video", 2.25), [9])[:-1]
        raise MediaError("cut", "the file is cut")

    it = Talker(WORLD, Every(1.0)).stream(Opened("a", ("video",), chunks()))
    got = [next(it), next(it)]
    assert [(c.start, c.end) for c in got] == [(0.0, 1.0), (1.0, 1.125)]
    with pytest.raises(MediaError, match="is cut"):
        next(it)


def test_a_stream_that_is_not_marked_as_ended() -> None:
    whole = stream("video", 2.25)
    marked = captioner(AtEnd()).caption(source(whole))
    assert same(captioner(AtEnd()).caption(source(replace(whole, last=False))), marked)
    silent = Opened("toy", ("audio", "video"), iter([whole]))
    assert same(captioner(AtEnd()).caption(silent), marked)


@given(st.lists(lengths, max_size=3), st.sampled_from([AtEnd(), Every(2.0), OnChange(0.6, 0.5, 2.0)]))
def test_many_are_one_by_one(inputs: list[dict[str, float]], policy: Policy) -> None:
    speaker = captioner(policy)
    whole = [wholes(seconds, seed=i) for i, seconds in enumerate(inputs)]
    one_by_one = [c for i, chunks in enumerate(whole) for c in speaker.caption(source(*chunks, name=str(i)))]
    together = list(speaker.stream_many(source(*chunks, name=str(i)) for i, chunks in enumerate(whole)))
    assert same(together, one_by_one)  # type: ignore[arg-type]


def test_a_bad_input_does_not_stop_the_others() -> None:
    def bad() -> Iterator[Chunk]:
        raise MediaError("cut", "the file is cut")
        yield

    good = [source(stream("video", 1.0, seed=i), name=str(i)) for i in range(3)]
    inputs = [good[0], Opened("bad", ("video",), bad()), good[1], "/no/such/file.mp4", good[2]]
    out = list(captioner(AtEnd()).stream_many(inputs))
    assert all(o.text for o in out if isinstance(o, Caption))
    assert [o.source for o in out] == ["0", "bad", "1", "/no/such/file.mp4", "2"]
    assert [isinstance(o, Failure) for o in out] == [False, True, False, True, False]


def test_one_source_or_several() -> None:
    with pytest.raises(UsageError, match="one source"):
        captioner(AtEnd()).stream()


def test_the_tap_sees_all_that_is_read() -> None:
    pieces = cut(stream("audio", 3.0), [30, 50])
    seen: list[Chunk] = []
    captioner(AtEnd()).caption(source(*pieces), tap=seen.append)
    assert torch.equal(torch.cat([c.data for c in seen]), torch.cat([c.data for c in pieces]))
