"""AtSilence: segments end where speech does, whatever the chunks; gaps and ends are silence; what it hears is saved."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from clips import sound_file, sound_of
from hypothesis import given
from hypothesis import strategies as st
from test_captioner import WORLD, Talker, captioner, same, source
from test_watcher import sound
from torch import Tensor, nn
from toy import CHANNELS, cut, stream

import mmworld
from mmworld.errors import ConfigError
from mmworld.modalities.audio.silence import AtSilence
from mmworld.modalities.audio.vad import SileroVAD, VADState
from mmworld.models import snapshot
from mmworld.models.message import RATE
from mmworld.models.scenes import Scenes
from mmworld.models.segments import Segments
from mmworld.stream.ops import merge
from mmworld.types import Chunk, Gap, Takes

STEP = 0.1


class Loud(SileroVAD):
    """Takes what is loud for speech, by tenths of a second, and remembers how many there were."""

    def __init__(self, rate: int) -> None:
        nn.Module.__init__(self)
        self.rate, self.chunk = rate, round(rate * STEP)

    def forward(self, samples: Tensor, state: VADState) -> Tensor:
        x = torch.cat((state.heard, samples))
        n = len(x) // self.chunk
        state.heard = x[n * self.chunk :].clone()
        return (x[: n * self.chunk].unflatten(0, (n, self.chunk)).mean(1) > 0.5).float()


def policy(rate: int = 50, shortest: float = 1.0, longest: float = 4.0) -> AtSilence:
    return AtSilence(Loud(rate), silence=0.25, shortest=shortest, longest=longest)


levels = st.lists(st.tuples(st.sampled_from("HL"), st.integers(1, 12)), max_size=12).map(
    lambda runs: "".join(level * n for level, n in runs)
)


def heard(levels: str) -> Chunk:
    """A sound of a tenth of a second for each level."""
    data = torch.tensor([float(level == "H") for level in levels]).repeat_interleave(5)[:, None].repeat(1, CHANNELS)
    return Chunk(data, 0.0, len(data) / 50, "audio", last=True)


def ends(levels: str, until: float, shortest: float = 1.0, longest: float = 4.0) -> list[float]:
    """Where segments end before `until`: after three quiet tenths that follow three or more between the first and the
    last loud one, a second after the last end at the earliest and four at the latest; of sound that is over, too."""
    spoken = re.finditer(r"H(?:H|L{1,2}(?=H))*LLL", levels + "LLL")
    over = [m.end() * STEP for m in spoken if len(m[0]) >= 6]
    out, begun = [], 0.0
    while True:
        begun = min(*(e for e in over if e >= begun + shortest - 1e-6), begun + longest, math.inf)
        if begun >= until - 1e-6:
            return out
        out.append(begun)


@given(levels, st.floats(0.0, 12.0), st.data())
def test_segments_end_where_speech_does(levels: str, seen: float, data: st.DataObject) -> None:
    whole = [heard(levels)] * bool(levels) + [stream("video", seen)] * (round(seen * 8) > 0)
    if not whole:
        return
    sizes = st.lists(st.integers(0, 30), max_size=8)
    pieces = list(merge(*(cut(c, data.draw(sizes)) for c in whole)))
    said = Talker(WORLD, policy()).caption(source(*pieces, live=data.draw(st.booleans())))
    end = max(c.end for c in whole)
    assert [c.end for c in said][:-1] == pytest.approx(ends(levels, end), abs=1e-6)
    assert said[-1].end == pytest.approx(end, abs=1e-6)
    assert all(a.end == b.start for a, b in pairwise(said))


@given(levels.filter(bool), st.floats(0.2, 8.0), st.booleans(), st.data())
def test_captions_do_not_depend_on_the_chunks(levels: str, seen: float, marked: bool, data: st.DataObject) -> None:
    whole = [heard(levels), stream("video", seen, seed=3)]
    want = captioner(policy()).caption(source(*whole))
    sizes = st.lists(st.integers(0, 30), max_size=8)
    pieces = [replace(p, last=p.last and marked) for p in merge(*(cut(c, data.draw(sizes)) for c in whole))]
    assert same(captioner(policy()).caption(source(*pieces, live=True)), want)


@given(levels.filter(bool), st.integers(0, 10), st.lists(st.integers(1, 30), min_size=2, max_size=8))
def test_saved_at_any_point_it_goes_on(levels: str, at: int, sizes: list[int]) -> None:
    pieces = cut(heard(levels), sizes)
    want, first = (captioner(policy()).begin(["audio"]) for _ in range(2))
    told = [(s.start, s.end) for p in pieces for s in want.take(p)]
    said = [(s.start, s.end) for p in pieces[:at] for s in first.take(p)]
    rest = captioner(policy()).restored(first.leaves())
    assert said + [(s.start, s.end) for p in pieces[at:] for s in rest.take(p)] == told


def test_what_the_released_detector_remembers_is_saved(tmp_path: Path) -> None:
    from mmworld.models.zoo.parity.equations.silero_vad import tiny

    vad, g = tiny(16_000).float(), torch.Generator().manual_seed(0)
    one = AtSilence(vad).start(0.0)
    for n in (0, 700, 5000):
        one.hear(Chunk(torch.randn(n, 1, generator=g), 0.0, n / RATE, "audio"), RATE)
        snapshot.write(tmp_path / "a", "judge", snapshot.leaves(one, "judge"))
        fresh = AtSilence(vad).start(0.0)
        two = snapshot.read(tmp_path / "a", "judge", lambda v, fresh=fresh: snapshot.restore(fresh, v, "judge"))
        assert two.vad is vad
        assert two.state.heard.equal(one.state.heard)
        x = torch.randn(2000, generator=g)
        assert torch.equal(vad(x, two.state.fork()), vad(x, one.state.fork()))


@pytest.mark.parametrize(("until", "end"), [(1.2, 1.2), (9.0, 1.3)])
def test_a_gap_is_silence_and_then_comes_another_sound(until: float, end: float) -> None:
    judge = policy(shortest=0.0, longest=99.0).start(0.0)
    judge.hear(replace(heard("H" * 10), last=False), 50.0)
    assert judge.due == 99.0
    judge.hear(Gap(1.0, until, "video", "slow"), 8.0)
    assert judge.due == 99.0
    judge.hear(Gap(1.0, until, "audio", "slow"), 50.0)
    assert judge.due == pytest.approx(end)
    judge.restart(judge.due, judge.due + 2e-6)
    judge.hear(replace(heard("HHHHLLL"), start=until, end=until + 0.7, last=False), 50.0)
    assert judge.due == pytest.approx(until + 0.7)


def test_a_session_with_gaps() -> None:
    cutter = Segments(captioner(policy()).begin(["audio"]).session, policy(shortest=0.5).start(0.0))
    speech = replace(heard("L" * 5 + "H" * 10), last=False)
    items = [speech, Gap(1.5, 6.0, "audio", "late"), replace(speech, start=6.0, end=7.5)]
    found = [(s.start, s.end) for item in items for s in cutter.take(item)]
    assert found == [pytest.approx(x) for x in [(0.0, 1.8)]]
    assert [(s.start, s.end) for s in cutter.finish()] == [pytest.approx((6.0, 7.5))]


@given(levels.filter(bool), st.lists(st.integers(1, 40_000), max_size=8))
def test_a_borrowed_model_is_shown_what_was_said(levels: str, sizes: list[int]) -> None:
    loud = torch.tensor([float(level == "H") for level in levels]).repeat_interleave(1600)
    pieces = [
        replace(c, data=loud[round(c.start * RATE) :][: len(c.data), None]) for c in sound(len(levels) * STEP, sizes)
    ]
    scenes = Scenes(Takes(("audio",)), ["audio"], policy(RATE).start(0.0))
    found = [s for p in pieces for s in scenes.take(p)] + list(scenes.finish())
    assert [s.end for s in found][:-1] == pytest.approx(ends(levels, len(levels) * STEP), abs=1e-6)
    told = torch.cat([chunk.data for s in found for chunk in s.parts])
    assert torch.equal(told[:, 0], loud)


@pytest.fixture(scope="module")
def released(shared_data: Path) -> Path:
    pytest.importorskip("google.protobuf", reason="the extra 'onnx' is not installed")
    return shared_data / "weights" / "silero_vad" / "silero_vad.onnx"


def test_two_speeches_are_told_of_one_by_one(released: Path, shared_data: Path, tmp_path: Path) -> None:
    """Real speech laid at 1 s and at 6 s over nothing: what is told of each ends within the silence after it."""
    speech = sound_of(shared_data / "media" / "audio" / "jfk.flac", RATE)[: int(2.1 * RATE)]
    whole = torch.zeros(10 * RATE)
    for at in (1, 6):
        whole[at * RATE : at * RATE + len(speech)] = speech
    (tmp_path / "a.wav").write_bytes(sound_file(whole[:, None], RATE))
    asked = AtSilence(released, silence=0.5)
    found = mmworld.caption(tmp_path / "a.wav", policy=asked)
    assert [c.end for c in found][:2] == pytest.approx([1 + 2.1 + 0.5, 6 + 2.1 + 0.5], abs=0.4)


def test_another_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match="hears 8000 samples a second, the model 50"):
        captioner(policy(8_000)).caption(source(heard("HL")))


@pytest.mark.parametrize(("name", "value"), [("silence", 0.0), ("silence", math.nan), ("shortest", 5.0)])
def test_values_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        replace(policy(), **{name: value})
