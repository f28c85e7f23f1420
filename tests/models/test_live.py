"""Live: what is said is what is said offline, whatever comes when; asked, saved, resumed, slowed down or cut off."""

from __future__ import annotations

import copy
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_captioner import WORLD, captioner, lengths, policies, same, wholes
from toy import cut, stream

from mmworld.errors import CheckpointError, MediaError, UsageError
from mmworld.models.captioner import Captioner
from mmworld.models.events import Answer, Failure
from mmworld.models.live import Live
from mmworld.models.opening import Opened
from mmworld.models.segments import Segment, Segments
from mmworld.models.session import Session
from mmworld.stream.intake import Feed, Intake, Pressure
from mmworld.stream.ops import merge
from mmworld.stream.policy import Every, OnChange, Policy
from mmworld.types import Caption, Chunk, Gap
from mmworld.verbs.watch import watch


def opened(*chunks: Chunk, live: bool = False, name: str = "toy") -> Opened:
    return Opened(name, tuple({c.modality: None for c in chunks}), iter(chunks), live)


def apart(whole: list[Chunk], draw: st.DrawFn | None = None) -> list[Opened]:
    """Each stream a source of its own, cut anyhow."""
    sizes = st.lists(st.integers(0, 20), max_size=6)
    return [opened(*(cut(c, draw(sizes)) if draw else [c]), name=c.modality) for c in whole]


def captions(live: Live) -> list[Caption]:
    with live:
        return [replace(e, source="toy") for e in live if isinstance(e, Caption)]


@given(lengths, policies, st.data())
def test_it_says_what_is_said_offline(seconds: dict[str, float], policy: Policy, data: st.DataObject) -> None:
    whole = wholes(seconds)
    want = captioner(policy).caption(opened(*whole))
    assert same(captions(Live(captioner(policy), apart(whole, data.draw))), want)


@given(lengths, st.sampled_from([Every(0.5), Every(0.7)]), st.data())
def test_saved_at_any_point_it_goes_on_as_if_never_stopped(
    tmp_path_factory: pytest.TempPathFactory, seconds: dict[str, float], policy: Policy, data: st.DataObject
) -> None:
    whole, path = wholes(seconds), tmp_path_factory.getbasetemp() / "live.safetensors"
    pieces = {c.modality: cut(c, data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=6))) for c in whole}
    events, reached = list(merge(*pieces.values())), threading.Event()
    at = data.draw(st.integers(0, len(events)))

    def held() -> Iterator[Chunk]:
        yield from events[:at]
        reached.wait(5)
        yield from events[at:]

    names = tuple(pieces)
    said: list[Caption] = []
    with Live(captioner(policy), [Opened("toy", names, held(), live=True)], pressure="block") as live:
        live.save(path).result(5)
        reached.set()
        said = [e for e in live if isinstance(e, Caption)]
    resumed = Live(captioner(policy), [Opened("toy", names, iter(events), live=False)], resume=path)
    assert same(captions(resumed), said[resumed.before.captions :])


def test_what_was_told_and_not_dealt_with_is_told_again(tmp_path: Path) -> None:
    """Saved while three captions wait and a fourth is being dealt with, it goes on with that one."""
    whole = stream("video", 4.0, seed=3)
    with Live(captioner(Every(0.5)), [opened(*cut(whole, [4] * 8))]) as live:
        reader = iter(live)
        said = [next(reader) for _ in range(4)]
        live.save(tmp_path / "a").result(5)
        said += list(reader)
    with Live(captioner(Every(0.5)), [opened(whole)], resume=tmp_path / "a") as live:
        assert live.before.captions == 3
        assert same(list(live), said[3:])  # type: ignore[arg-type]
        assert live.captions == len(said), "those before it was resumed are counted once"


def test_a_question_is_of_what_came_before_it_and_changes_nothing() -> None:
    whole, asked = stream("video", 3.0, seed=3), threading.Event()
    first, rest = cut(whole, [12])

    def held() -> Iterator[Chunk]:
        yield first
        asked.wait(5)
        yield rest

    with Live(captioner(Every(9.0)), [Opened("toy", ("video",), held(), live=True)]) as live:
        while live.clock < 1.5:
            time.sleep(0.01)
        futures = [live.ask(q) for q in ("two dogs", "it rains")]
        answers = [f.result(5) for f in futures]
        asked.set()
        events = list(live)
    session = Session(WORLD, modalities=["video"])
    session.append(first)
    for answer in answers:
        assert answer.time == 1.5
        assert answer.text == session.generate(answer.question, stop=captioner(Every(9.0)).stop).text
    assert sorted(a.question for a in events if isinstance(a, Answer)) == ["it rains", "two dogs"]
    assert same([e for e in events if isinstance(e, Caption)], captioner(Every(9.0)).caption(opened(whole)))


def test_after_the_end_the_last_segment_can_be_asked_about() -> None:
    with Live(captioner(Every(9.0)), [opened(stream("video", 2.0))]) as live:
        assert len(list(live)) == 1
        time.sleep(0.5)
        assert live.ask("two dogs").result(5).time == 2.0
    with pytest.raises(UsageError, match="closed"):
        live.ask("two dogs")


class Slow(Captioner):
    """Perceives no faster than it is let, and writes down what it is given."""

    def begin(self, modalities: Sequence[str], start: float = 0.0) -> Segments:
        segments = super().begin(modalities, start)
        take = segments.take
        self.given: list[Chunk | Gap] = []

        def slowly(item: Chunk | Gap) -> Iterator[Segment]:
            time.sleep(0.002)
            self.given.append(item)
            yield from take(item)

        segments.take = slowly  # type: ignore[method-assign]
        return segments


@pytest.mark.parametrize("pressure", ["drop", "thin"])
def test_where_the_model_is_slower_frames_are_left_out_and_sound_is_not(pressure: Pressure) -> None:
    video, audio = (cut(stream(n, 8.0), [1] * 400) for n in ("video", "audio"))
    slow = Slow(WORLD, Every(4.0))
    live = Live(slow, [Opened("toy", ("video", "audio"), merge(video, audio), live=True)], pressure=pressure)
    with live:
        gaps = [e for e in live if isinstance(e, Gap)]
    assert gaps
    assert {(g.modality, g.reason) for g in gaps} == {("video", "slow")}
    heard = torch.cat([c.data for c in slow.given if isinstance(c, Chunk) and c.modality == "audio"])
    assert len(heard) == 8 * 50
    seen = [(f.start, f.end) for f in slow.given if f.modality == "video" and f.end > f.start]
    assert all(abs(a[1] - b[0]) < 1e-6 for a, b in pairwise(seen)), "frames and gaps tile the time"
    assert sum(g.end - g.start for g in gaps) == pytest.approx(live.lanes[0].counts["slow"] / 8)


def test_of_a_stream_that_is_thinned_each_block_is_whole() -> None:
    """Else every gap would cost a block for what is left before it, and a lower rate would save nothing."""
    flooded, frames = threading.Event(), 240
    teller = captioner(Every(1.0))

    def flood() -> Iterator[Chunk]:
        yield from cut(stream("video", frames / 8), [1] * frames)[:-1]
        flooded.set()

    with closing(Intake([Feed("cam", ("video",), flood(), live=True)], pressure="thin", unit=teller.unit)) as intake:
        assert flooded.wait(10)
        session, gaps = Session(WORLD, modalities=["video"]), 0
        for _, item in intake:
            if isinstance(item, Gap):
                gaps += 1
                session.skip(item)
            elif isinstance(item, Chunk):
                session.append(item)
        kept = frames - intake.lanes[0].counts["slow"]
    assert gaps > 3
    assert session.streams["video"].given == kept / 4 * 3, "a block of three tokens for each four frames"


def test_a_source_that_fails_is_told_and_the_other_goes_on() -> None:
    def bad() -> Iterator[Chunk]:
        yield cut(stream("audio", 3.0), [50])[0]
        raise MediaError("network", "the microphone is gone")

    video = stream("video", 3.0)
    sources = [opened(*cut(video, [8, 8]), name="camera"), Opened("microphone", ("audio",), bad(), live=False)]
    with Live(captioner(Every(1.0)), sources) as live:
        events = list(live)
    (failure,) = [e for e in events if isinstance(e, Failure)]
    assert (failure.source, failure.error.code) == ("microphone", "network")  # type: ignore[attr-defined]
    assert [e.end for e in events if isinstance(e, Caption)] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("order", [("video", "audio"), ("audio", "video")])
def test_a_last_block_is_told_of_whichever_stream_ends_first(order: tuple[str, str]) -> None:
    """Both end as a segment does, the picture in the middle of a block, which comes out as it is closed."""
    whole = [replace(stream("video", 0.875), last=False), replace(stream("audio", 1.0), last=False)]
    whole[0] = replace(whole[0], start=0.125, end=1.0)
    segments = captioner(Every(1.0)).begin(["video", "audio"])
    cut = [s for c in whole for s in segments.take(c)]
    cut += [s for name in order for s in segments.close(name)]
    (segment,) = [*cut, *segments.finish()]
    assert (segment.start, segment.end, sum(segment.context.blocks)) == (0.0, 1.0, 2 * 3 + 10)


def test_a_fault_that_was_told_is_not_told_again(tmp_path: Path) -> None:
    """Saved after one source had failed, and gone on with: it fails again where it did."""
    saved = threading.Event()

    def bad() -> Iterator[Chunk]:
        yield cut(stream("audio", 3.0), [50])[0]
        raise MediaError("network", "the microphone is gone")

    def camera() -> Iterator[Chunk]:
        pieces = cut(stream("video", 3.0), [12])
        yield pieces[0]
        saved.wait(5)
        yield from pieces[1:]

    def sources() -> list[Opened]:
        return [Opened("camera", ("video",), camera()), Opened("microphone", ("audio",), bad())]

    with Live(captioner(Every(1.0)), sources()) as live:
        events = iter(live)
        first = next(e for e in events if isinstance(e, Failure))
        live.save(tmp_path / "a").result(5)
        saved.set()
        assert first.source == "microphone"
    with Live(captioner(Every(1.0)), sources(), resume=tmp_path / "a") as live:
        assert [type(e) for e in live if isinstance(e, Failure)] == [Failure]  # it had not been dealt with
    with Live(captioner(Every(1.0)), sources(), resume=tmp_path / "a") as live:
        list(live)
        live.save(tmp_path / "b").result(5)
    with Live(captioner(Every(1.0)), sources(), resume=tmp_path / "b") as live:
        assert not [e for e in live if isinstance(e, Failure)]


def test_a_fault_of_ours_is_raised_and_nobody_waits_in_vain() -> None:
    def bad() -> Iterator[Chunk]:
        yield cut(stream("audio", 3.0), [50])[0]
        raise ZeroDivisionError

    with Live(captioner(Every(1.0)), [Opened("toy", ("audio",), bad(), live=False)]) as live:
        with pytest.raises(ZeroDivisionError):
            list(live)
        with pytest.raises(ZeroDivisionError):
            live.ask("why?").result(5)


def test_a_live_source_that_stalls_is_not_waited_for() -> None:
    """The microphone stops after a second: what the camera shows is told, the gap is marked, late sound left out."""
    video, audio = cut(stream("video", 8.0), [4] * 20), cut(stream("audio", 8.0), [25] * 20)
    heard, missed, late = threading.Event(), threading.Event(), threading.Event()

    def camera() -> Iterator[Chunk]:
        heard.wait(10)
        yield from video[:-2]
        late.wait(10)
        yield from video[-2:]

    def microphone() -> Iterator[Chunk]:
        yield from audio[:2]
        heard.set()
        missed.wait(10)
        yield from audio[2:]
        late.set()

    sources = [Opened("camera", ("video",), camera(), True), Opened("microphone", ("audio",), microphone(), True)]
    events = []
    with Live(captioner(Every(1.0)), sources, patience=2.0) as live:
        for event in live:
            events.append(event)
            if isinstance(event, Gap) and event.end >= 4.0:
                missed.set()
        microphone_lane = live.lanes[1]
    gaps = [e for e in events if isinstance(e, Gap)]
    assert {(g.modality, g.reason, g.source) for g in gaps} == {("audio", "late", "microphone")}
    assert gaps[0].start == 1.0
    assert gaps[-1].end >= 4.0
    assert microphone_lane.counts["late"] > 0
    assert [e.end for e in events if isinstance(e, Caption)] == [float(i) for i in range(1, 9)]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="video comes from two sources"):
        Live(captioner(Every(1.0)), [opened(stream("video", 1.0)), opened(stream("video", 1.0))])
    with Live(captioner(Every(1.0)), [opened(stream("video", 1.0))]) as live:
        live.save(tmp_path / "a").result(5)
    with pytest.raises(CheckpointError, match="of other streams"):
        Live(captioner(Every(1.0)), [opened(stream("audio", 1.0))], resume=tmp_path / "a")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("policy", [Every(0.5), OnChange(0.6, 0.5, 2.0)])
def test_on_cuda_it_goes_on_where_the_model_is(policy: Policy, tmp_path: Path) -> None:
    teller = Captioner(copy.deepcopy(WORLD).to("cuda"), policy, stop=captioner(policy).stop)
    events, reached = cut(stream("video", 4.0, seed=3), [4] * 8), threading.Event()

    def held() -> Iterator[Chunk]:
        yield from events[:5]
        reached.wait(5)
        yield from events[5:]

    with Live(teller, [Opened("toy", ("video",), held(), live=True)], pressure="block") as live:
        live.save(tmp_path / "a").result(5)
        reached.set()
        said = [e for e in live if isinstance(e, Caption)]
    resumed = Live(teller, [Opened("toy", ("video",), iter(events), live=False)], resume=tmp_path / "a")
    assert same(captions(resumed), said[resumed.before.captions :])
    assert same(said, captions(Live(captioner(policy), [opened(*events)])))


def test_a_camera_that_is_gone_on_with_is_seen_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock begins anew with each process; the stream's does not."""
    module = sys.modules[watch.__module__]
    monkeypatch.setattr(module, "is_device", lambda name: name == "cam")
    monkeypatch.setattr(module, "open_device", lambda *_, **__: SimpleNamespace(duration=None, warnings=[], name="cam"))
    monkeypatch.setattr(Captioner, "open", lambda *_, **__: opened(*cut(stream("video", 2.0), [4] * 3), live=True))
    state = tmp_path / "state"
    with watch("cam", model=WORLD, policy=Every(0.5), pressure="block") as live:
        first = next(iter(live))
        live.save(state).result(5)
        left = live.clock
    os.utime(state, (time.time() - 60, time.time() - 60))
    with watch("cam", model=WORLD, policy=Every(0.5), pressure="block", resume=state) as live:
        events = iter(live)
        gap = next(e for e in events if isinstance(e, Gap))
        told = next(e for e in events if isinstance(e, Caption) and e.start > gap.start)
    assert isinstance(first, Caption)
    assert (gap.start, gap.reason) == (pytest.approx(left), "outage")
    assert 58 < gap.end - gap.start < 90
    assert told.start >= gap.end - 0.5
