"""What was perceived is kept in pieces whatever the chunks, and looked at again as it was; asking changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_captioner import WORLD, captioner, lengths, same, wholes
from test_live import opened
from toy import cut, stream

import mmworld
from mmworld.attention import Mask
from mmworld.cli import command
from mmworld.errors import UsageError
from mmworld.generate.decode import answer
from mmworld.models import segments
from mmworld.models.captioner import Captioner
from mmworld.models.hindsight import Hindsight, context, evidence
from mmworld.models.live import Live
from mmworld.models.opening import Opened
from mmworld.models.segments import Piece
from mmworld.models.session import Session
from mmworld.nn.state import KVState
from mmworld.stream.memory import Memory
from mmworld.stream.ops import merge
from mmworld.stream.policy import AtEnd, Every, OnChange, OnDemand, Policy
from mmworld.types import Caption, Chunk, Moment

policies = st.sampled_from([OnDemand(), AtEnd(), Every(1.0), Every(0.7), OnChange(0.6, 0.5, 2.0)])


def pieces(policy: Policy, chunks: Sequence[Chunk], names: Sequence[str]) -> list[Piece]:
    made: list[Piece] = []
    cutting = captioner(policy).begin(names)
    cutting.passing = made.append
    for chunk in chunks:
        list(cutting.take(chunk))
    list(cutting.finish())
    return made


def alike(a: Sequence[Piece], b: Sequence[Piece]) -> bool:
    def plain(p: Piece) -> tuple[object, ...]:
        return round(p.start, 6), round(p.end, 6), [(b.modality, round(b.end, 6), len(b.tokens)) for b in p.blocks]

    return [plain(p) for p in a] == [plain(p) for p in b]


def live(policy: Policy, sources: Sequence[Opened], path: Path | str, **options: object) -> tuple[Live, Memory]:
    teller = captioner(policy)
    memory = Memory(path, embed=lambda text: WORLD.meaning(text).numpy())
    hindsight = Hindsight(WORLD, memory, stop=teller.stop)
    return Live(teller, sources, memory=memory, hindsight=hindsight, **options), memory  # type: ignore[arg-type]


@given(lengths, policies, st.sampled_from([0.4, 1.0, 10.0]), st.data())
def test_pieces_are_all_that_was_perceived_whatever_the_chunks(
    seconds: dict[str, float], policy: Policy, longest: float, data: st.DataObject
) -> None:
    whole = wholes(seconds)
    session = Session(WORLD, modalities=list(seconds))
    for chunk in whole:
        session.feed(chunk)
    sizes = st.lists(st.integers(0, 20), max_size=6)
    parts = list(merge(*(cut(c, data.draw(sizes)) for c in whole)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "PIECE", longest)
        made, other = pieces(policy, whole, list(seconds)), pieces(policy, parts, list(seconds))
    assert alike(made, other)
    want = [(b.modality, b.end) for b in session.due()]
    assert [(b.modality, b.end) for p in made for b in p.blocks] == want or not isinstance(policy, OnDemand | AtEnd)
    end = max(c.end for c in whole)  # a last block may end later than its stream
    for p in made:
        assert p.start <= p.end
        assert all(b.end <= p.end + 1e-6 for b in p.blocks) or p.end >= end - 1e-6
        assert len(p.blocks) == 1 or p.end - p.start <= longest + 0.5, "one block more than a piece has no room for"


@given(st.floats(0.2, 3.0), st.integers(1, 200))
def test_what_is_few_enough_is_looked_at_as_it_was(seconds: float, most: int) -> None:
    """A sense of one token a block: the context of what is kept is the context as it was, to 16 bits."""
    (piece,) = pieces(AtEnd(), [stream("audio", seconds, seed=3)], ["audio"])
    kept = evidence(WORLD, piece, most=most)
    (trace,) = kept.traces
    session = Session(WORLD, modalities=["audio"])
    session.append(stream("audio", seconds, seed=3))
    assert len(trace.x) == min(most, len(session.context))
    x = torch.cat([WORLD.observe("audio", b.tokens, 0.0) for b in piece.blocks])
    if most >= len(x):
        assert np.allclose(trace.x, x.numpy(force=True), rtol=2**-10, atol=1e-4)
        want = session.context.keys[0].x
        assert torch.allclose(context(WORLD, kept).keys[0].x, want, atol=1e-2, rtol=1e-2)


def test_senses_are_looked_at_in_order_of_time() -> None:
    whole = [stream("audio", 1.0), stream("video", 1.0)]
    (piece,) = pieces(AtEnd(), whole, ["audio", "video"])
    kept = evidence(WORLD, piece, most=4)
    rows = [(at, t.modality, x) for t in kept.traces for at, x in zip(t.time.tolist(), t.x.tolist(), strict=True)]
    rows.sort(key=lambda row: row[:2])
    state = KVState()
    row = torch.tensor([x for *_, x in rows])
    with torch.no_grad():
        WORLD.backbone(row[None], Mask("blocks", (1,) * 8), state)
    assert all(torch.equal(a.x, b.x) for a, b in zip(context(WORLD, kept).keys, state.keys, strict=True))


def test_asked_each_moment_is_answered_from_what_is_kept_of_it_alone(tmp_path: Path) -> None:
    whole, said = stream("video", 4.0, seed=3), threading.Event()
    first, rest = cut(whole, [24])

    def held() -> Iterator[Chunk]:
        yield first
        said.wait(5)
        yield rest

    watched, _ = live(Every(1.0), [Opened("toy", ("video",), held(), live=True)], tmp_path / "m")
    with watched:
        reader = iter(watched)
        captions = [next(reader) for _ in range(3)]
        answered = watched.ask("two dogs bark").result(5)
        said.set()
        captions += [e for e in reader if isinstance(e, Caption)]
    assert same(captions, captioner(Every(1.0)).caption(opened(whole)))  # type: ignore[arg-type]
    assert answered.moments
    again = Memory(tmp_path / "m")
    for moment in answered.moments:
        kept = again.evidence(moment)
        assert kept is not None
        (alone,) = answer(WORLD, [context(WORLD, kept)], "two dogs bark", stop=captioner(Every(1.0)).stop)
        assert moment.seen == alone.text
    assert len(again) == 4


class Silent(Captioner):
    """Has nothing to say."""

    def say(self, segments: Sequence[segments.Segment], source: str) -> Iterator[Caption]:
        return iter(())


@pytest.mark.parametrize("teller", [captioner(OnDemand()), Silent(WORLD, Every(10.0))])
def test_what_nothing_is_said_of_is_kept_all_the_same(tmp_path: Path, teller: Captioner) -> None:
    memory = Memory(tmp_path / "m")
    whole = stream("video", 25.0, seed=3)
    with Live(teller, [opened(whole)], memory=memory, hindsight=Hindsight(WORLD, memory)) as watched:
        assert not list(watched)
    moments = Memory(tmp_path / "m").between(0, 99)
    assert [(m.start, m.end, m.text) for m in moments] == [(0.0, 10.0, ""), (10.0, 20.0, ""), (20.0, 25.0, "")]
    assert all(m.seen == "" for m in moments)


@settings(max_examples=8)
@given(policies, st.data())
def test_gone_on_with_it_keeps_each_piece_once(
    tmp_path_factory: pytest.TempPathFactory, policy: Policy, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("gone")
    whole = stream("video", 6.0, seed=3)
    events = cut(whole, data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=6)))
    at, reached = data.draw(st.integers(0, len(events))), threading.Event()

    def held() -> Iterator[Chunk]:
        yield from events[:at]
        reached.wait(5)
        yield from events[at:]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "PIECE", 1.3)
        want = pieces(policy, [whole], ["video"])
        first, _ = live(policy, [Opened("toy", ("video",), held(), live=True)], folder / "m", pressure="block")
        with first:
            first.save(folder / "state").result(5)
            reached.set()
            list(first)
        second, _ = live(policy, [Opened("toy", ("video",), iter(events))], folder / "m", resume=folder / "state")
        with second:
            list(second)
    memory = Memory(folder / "m")
    found = [memory.evidence(Moment(p.start, p.end, "", "toy")) for p in want]
    assert len(memory._run("select * from evidence")) == len(want)
    for piece, kept in zip(want, found, strict=True):
        assert kept is not None
        (trace,) = kept.traces
        (fresh,) = evidence(WORLD, piece).traces
        assert np.allclose(trace.x, fresh.x, atol=1e-2)


def test_evidence_of_a_model_of_another_width_is_not_looked_at() -> None:
    memory = Memory()
    hindsight = Hindsight(WORLD, memory)
    (piece,) = pieces(AtEnd(), [stream("video", 1.0)], ["video"])
    hindsight.keep(piece, "")
    moment = Moment(piece.start, piece.end, "it rains")
    assert hindsight.look([moment], "two dogs")[0].seen
    memory._run("update traces set width = width / 2, x = substr(x, 1, length(x) / 2)")
    assert hindsight.look([moment], "two dogs") == [moment]
    memory._run("update traces set x = x'00'")
    with pytest.raises(UsageError, match="damaged"):
        hindsight.look([moment])


def test_what_is_only_seen_is_found_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, memory = str(Path(mmworld.__file__).parent / "samples" / "scene.mp4"), str(tmp_path / "m")
    assert command(["watch", scene, "--on-demand", "--memory", memory]) == 0
    assert capsys.readouterr().out == ""
    assert command(["find", "--memory", memory]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("[00:00.000 --> 00:06.500]  (")
    assert "orange star" in line
    assert [m.seen for m in mmworld.recall(memory)] == [line.split("  ")[1].strip("()")]
    assert command(["find", "a star that disappears", "--memory", memory]) == 0
    assert capsys.readouterr().out.splitlines() == [line]
