"""Provisional captions: what would be said by then, at times that are the stream's; the rest is as without them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_captioner import captioner, lengths, policies, same, source, wholes
from test_live import apart, opened
from toy import cut, stream

from mmworld.errors import UsageError
from mmworld.models.events import Event
from mmworld.models.jobs import Jobs, Told
from mmworld.models.live import Live
from mmworld.models.opening import Opened
from mmworld.models.provisional import Agreement, Provisional
from mmworld.models.segments import Segment
from mmworld.nn.state import KVState
from mmworld.stream.ops import merge
from mmworld.stream.policy import Every, OnDemand, Policy
from mmworld.types import Caption, Chunk

often = st.sampled_from([0.3, 0.5, 0.45])


def told(live: Live) -> list[Event]:
    with live:
        return list(live)


def finals(events: Sequence[Event]) -> list[Caption]:
    return [e for e in events if isinstance(e, Caption)]


def provisional(events: Sequence[Event]) -> list[Caption]:
    return [e.caption for e in events if isinstance(e, Provisional)]


def live(policy: Policy, sources: list[Opened], **options: Any) -> Live:
    return Live(captioner(policy), sources, pressure="block", **options)


@given(lengths, policies, often, st.data())
def test_captions_are_those_without_them(
    seconds: dict[str, float], policy: Policy, every: float, data: st.DataObject
) -> None:
    whole = wholes(seconds)
    names = tuple(c.modality for c in whole)
    events = told(live(policy, [Opened("toy", names, merge(*([c] for c in whole)), False)], provisional=every))
    assert same(finals(events), captioner(policy).caption(source(*whole)))
    cut_up = [
        Opened("toy", names, merge(*(cut(c, data.draw(st.lists(st.integers(0, 20), max_size=6))) for c in whole)), True)
    ]
    again = told(live(policy, cut_up, provisional=every))
    assert same(provisional(again), provisional(events))
    assert [e.settled for e in again if isinstance(e, Provisional)] == [
        e.settled for e in events if isinstance(e, Provisional)
    ]


@given(lengths, often)
def test_each_is_what_would_be_said_by_then(seconds: dict[str, float], every: float) -> None:
    """Of the first segment: what one says that speaks at that time."""
    whole = wholes(seconds)
    events = told(live(Every(2.0), apart(whole), provisional=every))
    said = {round(c.end, 3): c.text for c in provisional(events) if c.start == 0.0}
    last = min(2.0, max(c.end for c in whole))
    for n in range(1, math.ceil(last / every - 1e-6)):
        first = captioner(Every(n * every)).caption(source(*whole))[:1]
        want = [c.text for c in first if c.end == pytest.approx(n * every)]
        assert [said[t] for t in said if t == round(n * every, 3)] == want
    assert len(said) <= math.ceil(last / every - 1e-6)


def test_they_come_before_their_caption_and_begin_anew_with_each_segment() -> None:
    events = told(live(Every(1.0), [opened(stream("video", 2.0))], provisional=0.5))
    spans = [(e.caption.start, e.caption.end, 0) if isinstance(e, Provisional) else (e.start, e.end, 1) for e in events]  # type: ignore[union-attr]
    assert spans == [(0.0, 0.5, 0), (0.0, 1.0, 1), (1.0, 1.5, 0), (1.0, 2.0, 1)]
    assert all(e.settled == "" for e in events if isinstance(e, Provisional)), "each is the first of its segment"


@given(st.lists(st.tuples(st.integers(0, 1), st.text("ab ", max_size=8)), max_size=8))
def test_two_in_a_row_settle_what_they_begin_with_alike(said: list[tuple[int, str]]) -> None:
    said.sort(key=lambda s: s[0])
    agreement = Agreement()
    before: tuple[int, list[str]] = (-1, [])
    for start, text in said:
        made = agreement.add(Caption(text, float(start), start + 1.0))
        words = text.split()
        settled = made.settled.split()
        both = before[1] if before[0] == start else []
        assert settled == words[: len(settled)] == both[: len(settled)]
        assert words[len(settled) :][:1] != both[len(settled) :][:1] or settled == words == both
        before = (start, words)


@given(lengths, often, st.data())
def test_gone_on_with_they_are_those_of_one_never_stopped(
    tmp_path_factory: pytest.TempPathFactory, seconds: dict[str, float], every: float, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "provisional.safetensors"
    sizes = st.lists(st.integers(1, 9), min_size=3, max_size=6)
    pieces = {c.modality: cut(c, data.draw(sizes)) for c in wholes(seconds)}
    items, reached = list(merge(*pieces.values())), threading.Event()
    at = data.draw(st.integers(0, len(items)))

    def held() -> Iterator[Chunk]:
        yield from items[:at]
        reached.wait(5)
        yield from items[at:]

    with live(Every(1.5), [Opened("toy", tuple(pieces), held(), live=True)], provisional=every) as first:
        first.save(path).result(5)
        reached.set()
        whole = list(first)
    resumed = live(Every(1.5), [Opened("toy", tuple(pieces), iter(items), False)], provisional=every, resume=path)
    rest = told(resumed)
    want = whole[resumed.before.events :]
    assert same(finals(rest), finals(want))
    assert same(provisional(rest), provisional(want))
    assert [type(e) for e in rest] == [type(e) for e in want]
    assert [getattr(e, "settled", None) for e in rest] == [getattr(e, "settled", None) for e in want]


def test_where_the_speaking_is_too_slow_they_are_left_out_first() -> None:
    jobs = Jobs(64, drop=True)
    for i in range(100):
        jobs.put(Told(Segment(float(i), i + 1.0, KVState(), final=i % 4 == 3), 0.0))
    taken = [j.segment for _ in range(2) for j in jobs.take()]
    assert len(taken) == 64
    assert [s.start for s in taken if s.final] == [float(i) for i in range(3, 100, 4)]
    assert jobs.dropped == 0


def test_on_demand_only_questions_are_answered() -> None:
    with live(OnDemand(), [opened(stream("video", 3.0, seed=3))]) as watched:
        assert list(watched) == []
        answer = watched.ask("two dogs").result(5)
    from mmworld.models.session import Session

    session = Session(captioner(OnDemand()).world, modalities=["video"])
    session.append(stream("video", 3.0, seed=3))
    assert (answer.time, answer.text) == (3.0, session.generate("two dogs", stop=captioner(OnDemand()).stop).text)
    assert captioner(OnDemand()).caption(source(stream("video", 3.0))) == []


def test_seconds_must_be_more_than_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="every 0 s: must be more than 0"):
        live(Every(1.0), [opened(stream("video", 1.0))], provisional=0.0)
