"""Live with a borrowed model: what it says is what is said offline; asked, saved, resumed; with tiny checkpoints."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from checkpoints import answerer, captioner
from hypothesis import given
from hypothesis import strategies as st
from test_scenes import arrivals, film, frame_sizes, pieces, policies, seconds, sound, sound_sizes
from torch import Tensor
from torch.nn import functional as F

import mmworld
from mmworld.errors import CheckpointError, UsageError
from mmworld.generate.stop import Stop
from mmworld.models.live import Answer, Live
from mmworld.models.message import RATE, Message
from mmworld.models.opening import Opened
from mmworld.models.watcher import Watcher
from mmworld.nn.state import KVState
from mmworld.stream.policy import AtEnd, Every, OnChange, Policy
from mmworld.types import Caption, Chunk, Gap, Takes


class Digits:
    ends = (16,)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f"{i:x}" for i in ids)


class Said(KVState):
    """What is still to be said."""

    left: list[int]


class Witness:
    """An assistant that says a digest of all that it is shown and asked: eight hexadecimal digits."""

    takes: ClassVar[Takes] = Takes(("video", "audio"), frames=3, seconds=4.0)
    tokenizer = Digits()

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        digest = hashlib.sha256()
        for part in (p for m in messages for p in m.parts):
            told = part if isinstance(part, str) else (part.modality, round(part.start, 4), round(part.end, 4))
            digest.update(repr(told).encode())
            if isinstance(part, Chunk):
                digest.update(part.data.contiguous().numpy().tobytes())
        state = Said()
        state.left = [int(c, 16) for c in digest.hexdigest()[:8]] + [16]
        return state, self.read(torch.zeros(1, 1), state)

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        assert isinstance(state, Said)
        return torch.nn.functional.one_hot(torch.tensor([state.left.pop(0)]), 17).float() * 20


def opened(*chunks: Chunk, live: bool = False, name: str = "toy") -> Opened:
    return Opened(name, tuple({c.modality: None for c in chunks}), iter(chunks), live)


def captions(events: Sequence[Any]) -> list[Caption]:
    return [replace(e, source="toy") for e in events if isinstance(e, Caption)]


def run(live: Live) -> list[Caption]:
    with live:
        return captions(list(live))


def watcher(policy: Policy, model: Any = None) -> Watcher:
    return Watcher(model or Witness(), policy, stop=Stop(9))


@given(seconds, seconds, policies, st.booleans(), st.data())
def test_it_says_what_is_said_offline(
    seen: float, heard: float, policy: Policy, apart: bool, data: st.DataObject
) -> None:
    video, audio = film(seen), sound(heard)
    want = watcher(policy).caption(opened(video, audio))
    if apart:
        cut = pieces(video, data.draw(frame_sizes)), pieces(audio, data.draw(sound_sizes))
        sources = [opened(*c, name=n) for c, n in zip(cut, ("camera", "microphone"), strict=True)]
    else:
        sources = [opened(*data.draw(arrivals(video, audio)))]
    assert run(Live(watcher(policy), sources)) == want
    assert want


def held(events: Sequence[Chunk], at: int, go: threading.Event) -> Iterator[Chunk]:
    yield from events[:at]
    go.wait(10)
    yield from events[at:]


def saved(teller: Watcher, events: Sequence[Chunk], at: int, path: Path) -> list[Caption]:
    """What is said where the state is saved after `at` of the events."""
    go, names = threading.Event(), tuple(sorted({c.modality for c in events}))
    ends = {c.modality: c.end for c in events[:at]}
    with Live(teller, [Opened("toy", names, held(events, at, go), live=True)], pressure="block") as live:
        while any(live.lanes[0].clocks[n] < end for n, end in ends.items()):
            time.sleep(0.001)
        live.save(path).result(10)
        go.set()
        return captions(list(live))


@given(seconds, seconds, policies, st.data())
def test_saved_at_any_point_it_goes_on_as_if_never_stopped(
    tmp_path_factory: pytest.TempPathFactory, seen: float, heard: float, policy: Policy, data: st.DataObject
) -> None:
    """A source that is read again may well come in other pieces."""
    streams, path = (sound(heard), film(seen)), tmp_path_factory.getbasetemp() / "live.safetensors"
    events = data.draw(arrivals(*streams))
    said = saved(watcher(policy), events, data.draw(st.integers(0, len(events))), path)
    again = opened(*data.draw(arrivals(*streams)))
    resumed = Live(watcher(policy), [replace(again, modalities=("audio", "video"))], resume=path)
    assert run(resumed) == said[resumed.before.captions :]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Random checkpoints of a model that is asked, and of one that only tells."""
    pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
    folder = tmp_path_factory.mktemp("tiny")
    for name, make in (("llava", answerer), ("blip", captioner)):
        (folder / name).mkdir()
        make(folder / name)
    return lambda name: mmworld.load(folder / name)


@pytest.mark.parametrize("policy", [Every(1.0), OnChange(0.3, 0.5, 2.0)])
@pytest.mark.parametrize("name", ["llava", "blip"])
def test_a_checkpoint_goes_on_after_it_was_cut_off(
    name: str, policy: Policy, tiny: Callable[[str], Any], tmp_path: Path
) -> None:
    teller, events = watcher(policy, tiny(name)), pieces(film(4.0), [1] * 16)
    want = watcher(policy, tiny(name)).caption(opened(*events))
    assert len(want) >= 3
    for at in (1, 6, 9, 16):
        assert saved(teller, events, at, tmp_path / "state") == want
        with Live(teller, [opened(*events)], resume=tmp_path / "state") as live:
            assert captions(list(live)) == want[live.before.captions :]


def test_it_is_asked_about_what_is_held_as_ask_does(tiny: Callable[[str], Any]) -> None:
    """Several questions at once; none changes what is told. Between two segments the last one is asked about."""
    model, events, go = tiny("llava"), pieces(film(3.0), [1] * 12), threading.Event()
    questions = ["what is in the picture?", "a dog?", "who plays?"]
    teller = Watcher(model, Every(2.0), prompt="seen:", stop=Stop(6))
    with Live(teller, [Opened("toy", ("video",), held(events, 6, go), live=True)]) as live:
        while live.clock < 1.5:
            time.sleep(0.01)
        futures = [live.ask(q) for q in questions]
        answers = [f.result(20) for f in futures]
        go.set()
        told = list(live)
        time.sleep(0.3)
        last = live.ask(questions[0]).result(20)
    shown = Chunk(film(3.0).data[3:4], 0.0, 1.5, "image")  # of frames 0 to 5, that at the middle of the time
    for question, answer in zip(questions, answers, strict=True):
        assert answer.time == 1.5
        assert answer.text == mmworld.ask(question, shown, model=model, stop=Stop(6))
    assert [e.question for e in told if isinstance(e, Answer)] == questions
    assert captions(told) == Watcher(model, Every(2.0), prompt="seen:", stop=Stop(6)).caption(opened(*events))
    still = Chunk(film(3.0).data[10:11], 2.0, 3.0, "image")
    assert (last.time, last.text) == (3.0, mmworld.ask(questions[0], still, model=model, stop=Stop(6)))


def test_a_model_that_cannot_be_asked_says_so_and_goes_on(tiny: Callable[[str], Any]) -> None:
    with Live(watcher(Every(1.0), tiny("blip")), [opened(film(2.0))]) as live:
        with pytest.raises(UsageError, match="captions pictures"):
            live.ask("what is this?").result(20)
        assert [c.end for c in captions(list(live))] == [1.0, 2.0]


class Ear(Witness):
    """Keeps what it hears."""

    takes: ClassVar[Takes] = Takes(("audio",), seconds=30.0)

    def __init__(self) -> None:
        self.heard: list[Chunk] = []

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        self.heard += [p for m in messages for p in m.parts if isinstance(p, Chunk)]
        return super().begin(messages)


def test_an_outage_is_silent_for_as_long_as_it_was() -> None:
    ear, whole = Ear(), sound(4.0).data
    items: Any = [
        Chunk(whole[:RATE], 0.0, 1.0, "audio"),
        Gap(1.0, 2.5, "audio", "outage", "hall"),
        Chunk(whole[int(2.5 * RATE) :], 2.5, 4.0, "audio"),
    ]
    with Live(Watcher(ear, AtEnd()), [Opened("hall", ("audio",), iter(items), live=True)]) as live:
        events = list(live)
    assert [(type(e), e.start, e.end) for e in events] == [(Gap, 1.0, 2.5), (Caption, 0.0, 4.0)]
    whole[RATE : int(2.5 * RATE)] = 0
    assert torch.equal(ear.heard[0].data, whole)


class Onlooker(Witness):
    """Keeps what it is shown."""

    def __init__(self, *senses: str) -> None:
        self.takes = Takes(senses, frames=16)  # type: ignore[misc]
        self.shown: list[Chunk] = []

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        self.shown += [p for m in messages for p in m.parts if isinstance(p, Chunk)]
        return super().begin(messages)


@pytest.mark.parametrize("senses", [("video",), ("image",)])
def test_a_camera_that_comes_back_in_another_size(senses: tuple[str, ...]) -> None:
    """Within a segment all has the first one's size: what is larger is scaled down, and keeps its middle."""
    first, then = film(1.0).data, film(2.0).data[4:]
    wide = F.interpolate(then.float(), scale_factor=3.0).to(torch.uint8)
    wide = torch.cat([wide, wide.flip(-1)], -1)  # 24 high, 48 wide: the middle third of each half
    items: Any = [
        Chunk(first, 0.0, 1.0, "video"),
        Gap(1.0, 1.5, "video", "outage", "hall"),
        Chunk(wide, 1.5, 2.5, "video"),
    ]
    eye = Onlooker(*senses)
    with Live(Watcher(eye, AtEnd()), [Opened("hall", ("video",), iter(items), live=True)]) as live:
        assert [type(e) for e in live] == [Gap, Caption]
    shown = torch.cat([c.data for c in eye.shown])
    assert torch.equal(shown[:4], first)
    small = F.interpolate(wide.float(), (8, 16), mode="area")[..., 4:12]
    assert shown.shape == (8, 3, 8, 8)
    assert (shown[4:].float() - small).abs().mean() < 8


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with Live(watcher(Every(1.0)), [opened(film(1.0))]) as live:
        live.save(tmp_path / "a").result(10)
    with pytest.raises(CheckpointError, match="of another model"):
        Live(watcher(Every(1.0), Ear()), [opened(film(1.0))], resume=tmp_path / "a")
    with pytest.raises(UsageError, match="a Witness keeps nothing across captions"):
        mmworld.watch(opened(film(1.0)), model=Witness(), keep=mmworld.Keep(2.0))
    with pytest.raises(UsageError, match="a Witness leaves out no tokens"):
        mmworld.watch(opened(film(1.0)), model=Witness(), economy={"video": mmworld.Economy()})
