"""Session: the context is that of the packed pass, whatever the chunks and their order of arrival."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import TOYS, cut, stream, toy_world

from mmworld.errors import CheckpointError, ConfigError, LimitError, UsageError
from mmworld.generate.decode import generate_many
from mmworld.generate.samplers import Sample
from mmworld.generate.stop import Stop
from mmworld.models.keep import Keep
from mmworld.models.session import MAX_WAITING, Session
from mmworld.models.world import Item
from mmworld.types import Chunk, Gap
from mmworld.weights.checkpoint import load_safetensors, save_tensors

WORLD = toy_world(seed=5)
STOP = Stop(5)


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Chunk], list[Chunk]]:
    """Whole streams, and the same ones cut anyhow and interleaved anyhow (each in its own order)."""
    names = draw(st.lists(st.sampled_from(sorted(TOYS)), unique=True, min_size=1, max_size=3))
    whole = [
        stream(n, draw(st.floats(0, 3)), start=draw(st.floats(0, 2)), seed=draw(st.integers(0, 99))) for n in names
    ]
    queues = [cut(c, draw(st.lists(st.integers(0, 30), max_size=5))) for c in whole]
    mixed = []
    while any(queues):
        queue = draw(st.sampled_from([q for q in queues if q]))
        mixed.append(queue.pop(0))
    return whole, mixed


def context_error(session: Session, whole: list[Chunk]) -> float:
    """Largest difference of the session's cache from that of one packed pass."""
    packed = WORLD.pack([whole], [()])
    fresh = Session(WORLD, modalities=[c.modality for c in whole]).context
    if len(packed.x):
        WORLD.backbone(packed.x[None], packed.mask, fresh)
    assert session.context.blocks == fresh.blocks
    pairs = zip((*session.context.keys, *session.context.values), (*fresh.keys, *fresh.values), strict=True)
    return max((float((a.x - b.x).abs().max() / (1 + b.x.abs().max())) for a, b in pairs), default=0.0)


@torch.no_grad()
@given(arrivals())
def test_any_chunking_and_arrival_is_the_packed_pass(streams: tuple[list[Chunk], list[Chunk]]) -> None:
    whole, mixed = streams
    session = Session(WORLD, modalities=[c.modality for c in whole])
    for chunk in mixed:
        session.append(chunk)
    assert context_error(session, whole) < 1e-5
    got = session.generate("two dogs", stop=STOP)
    item = WORLD.item(whole, "", prompt="two dogs")
    (want,) = generate_many(WORLD, [item], stop=STOP)
    assert got.ids == want.ids
    assert got.score == pytest.approx(want.score, rel=1e-4)


@torch.no_grad()
@given(arrivals(), st.data())
def test_speaking_and_forking_on_the_way_change_nothing(
    streams: tuple[list[Chunk], list[Chunk]], data: st.DataObject
) -> None:
    whole, mixed = streams
    session = Session(WORLD, modalities=[c.modality for c in whole])
    at = data.draw(st.integers(0, len(mixed)))
    for chunk in mixed[:at]:
        session.append(chunk)
    session.generate(stop=STOP)
    fork = session.fork()
    for chunk in mixed[at:]:
        fork.append(chunk)
    fork.commit([5, 6])
    for chunk in mixed[at:]:
        session.append(chunk)
    assert context_error(session, whole) < 1e-5


@torch.no_grad()
@given(arrivals(), st.data())
def test_saved_and_loaded_it_goes_on(
    tmp_path_factory: pytest.TempPathFactory, streams: tuple[list[Chunk], list[Chunk]], data: st.DataObject
) -> None:
    whole, mixed = streams
    session = Session(WORLD, modalities=[c.modality for c in whole])
    at = data.draw(st.integers(0, len(mixed)))
    for chunk in mixed[:at]:
        session.append(chunk)
    path = tmp_path_factory.getbasetemp() / "session.safetensors"
    session.save(path)
    loaded = Session.load(WORLD, path)
    assert loaded.clock == session.clock
    for chunk in mixed[at:]:
        loaded.append(chunk)
    assert context_error(loaded, whole) < 1e-5


@torch.no_grad()
@given(arrivals(), st.lists(st.floats(0.01, 2), max_size=3), st.data())
def test_a_gap_parts_two_streams(
    streams: tuple[list[Chunk], list[Chunk]], gaps: list[float], data: st.DataObject
) -> None:
    """With gaps at any places the context is the packed pass over what lies between them, each a stream of its own."""
    _, mixed = streams
    names = list(dict.fromkeys(c.modality for c in mixed))
    session, apart, shift = Session(WORLD, modalities=names), [], dict.fromkeys(names, 0.0)
    places = {data.draw(st.integers(0, len(mixed))): gap for gap in gaps}
    parts: dict[str, list[Chunk]] = {}
    for i, chunk in enumerate(mixed):
        name = chunk.modality
        if (gap := places.get(i)) and session.streams[name].open:
            at = max(session.streams[name].heard, 0.0)
            session.skip(Gap(at, at + gap, name, "outage"))
            session.enter(session.due())
            apart.append(
                joined(parts.pop(name)) if name in parts else replace(chunk, data=chunk.data[:0], start=at, end=at)
            )
            shift[name] = max(shift[name], at + gap - chunk.start)
        moved = replace(chunk, start=chunk.start + shift[name], end=chunk.end + shift[name])
        parts.setdefault(name, []).append(moved)
        session.append(moved)
    apart += [joined(held) for held in parts.values()]
    assert context_error(session, apart) < 1e-5


def joined(chunks: list[Chunk]) -> Chunk:
    return replace(chunks[-1], data=torch.cat([c.data for c in chunks]), start=chunks[0].start, last=True)


@torch.no_grad()
@given(arrivals(), st.floats(0.2, 2), st.integers(0, 3), st.data())
def test_what_is_kept_of_a_stream_does_not_depend_on_its_chunks(
    streams: tuple[list[Chunk], list[Chunk]], seconds: float, sinks: int, data: st.DataObject
) -> None:
    """Of each modality the last blocks, in order, beside the first of all; the same however the streams are cut."""
    whole, mixed = streams
    names, keep = [c.modality for c in whole], Keep(seconds, {"video": 0.7}, text=3, sinks=sinks)
    sessions = [Session(WORLD, modalities=names, keep=keep) for _ in range(2)]
    all_blocks = Session(WORLD, modalities=names)
    for session, chunks in zip((*sessions, all_blocks), (mixed, whole, whole), strict=True):
        for chunk in chunks:
            session.append(chunk)
    for a, b in zip(sessions[0].context.keys, sessions[1].context.keys, strict=True):
        assert float((a.x - b.x).abs().max() / (1 + b.x.abs().max())) < 1e-5
    limits = [math.ceil((0.7 if n == "video" else seconds) / TOYS[n].hop) for n in names]
    kinds = sessions[0].context.kinds[min(sinks, len(all_blocks.context.blocks)) :]
    assert all(kinds.count(k) <= limit for k, limit in enumerate(limits))
    sessions[0].commit([5, 6, 7, 8, 9])
    assert sessions[0].context.kinds.count(len(names)) <= 3 + sinks
    assert sessions[0].generate(stop=STOP).ids == sessions[0].fork().generate(stop=STOP).ids


def test_a_checkpoint_is_no_session(tmp_path: Path) -> None:
    save_tensors({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="holds no session"):
        Session.load(WORLD, tmp_path / "a.safetensors")


@pytest.mark.parametrize("about", ["{", "[]", "{}", '{"modalities": 3, "origin": 0, "waiting": 0}'])
def test_a_session_with_another_story(about: str, tmp_path: Path) -> None:
    session = Session(WORLD, modalities=["audio"])
    session.append(cut(stream("audio", 1.0), [33])[0])
    session.save(tmp_path / "s.safetensors")
    save_tensors(load_safetensors(tmp_path / "s.safetensors"), tmp_path / "t.safetensors", {"session": about})
    with pytest.raises(CheckpointError, match="not a whole session"):
        Session.load(WORLD, tmp_path / "t.safetensors")


@torch.no_grad()
def test_after_clear_only_what_comes_later_counts() -> None:
    video = stream("video", 3.0, seed=1)
    session = Session(WORLD, modalities=["video"])
    head, *tail = cut(video, [12, 5])
    session.append(head)
    session.clear()
    for chunk in tail:
        session.append(chunk)
    tokens = WORLD.adapters["video"].encode(video)
    n = sum(tokens.blocks[:3])
    want = WORLD.observe("video", tokens, origin=1.5)[n:]
    state = Session(WORLD, modalities=["video"]).context
    from mmworld.attention import Mask

    WORLD.backbone(want[None], Mask("blocks", tokens.blocks[3:]), state)
    torch.testing.assert_close(session.context.keys[1].x, state.keys[1].x, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_commit_is_text_in_the_context() -> None:
    chunk, said = stream("audio", 1.0), (1, 7, 8)
    session = Session(WORLD, modalities=["audio"])
    session.append(chunk)
    session.commit(said)
    (want,) = generate_many(WORLD, [Item((chunk,), (*said, 1), loss_from=4)], stop=STOP)
    assert session.generate(stop=STOP).ids == want.ids


@torch.no_grad()
def test_a_window_bounds_a_long_stream() -> None:
    session = Session(WORLD, modalities=["audio"], window=8, sinks=1)
    sizes = []
    for chunk in cut(stream("audio", 19.0), [25] * 36):
        session.append(chunk)
        sizes.append(session.nbytes)
    assert sizes[10] == max(sizes)
    before = session.context.keys[0].x.clone()
    session.generate(stop=Stop(12))
    torch.testing.assert_close(session.context.keys[0].x, before)


def test_pieces_are_the_generation() -> None:
    session = Session(WORLD, modalities=["video"])
    session.append(stream("video", 2.0, seed=4))
    sampler = Sample(seed=2)
    assert "".join(session.pieces("it", sampler, STOP)).strip() == session.generate("it", sampler, STOP).text


def test_clock_is_the_slowest_open_stream() -> None:
    session = Session(WORLD, modalities=["video", "audio"])
    assert session.clock == -math.inf
    session.append(Chunk(torch.zeros(16, 3), 0.0, 2.0, "video"))
    assert session.clock == -math.inf
    session.append(Chunk(torch.zeros(50, 3), 0.0, 1.0, "audio"))
    assert session.clock == 1.0
    session.append(Chunk(torch.zeros(0, 3), 1.0, 1.0, "audio", last=True))
    assert session.clock == 2.0


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="no adapter for smell"):
        Session(WORLD, modalities=["smell"])
    session = Session(WORLD, modalities=["video"])
    with pytest.raises(UsageError, match="this session has video"):
        session.append(stream("audio", 1.0))
    session.append(Chunk(torch.zeros(8, 3), 0.0, 1.0, "video"))
    with pytest.raises(UsageError, match="starts before"):
        session.append(Chunk(torch.zeros(8, 3), 0.5, 1.5, "video"))
    session.append(Chunk(torch.zeros(8, 3), 1.0, 2.0, "video", last=True))
    with pytest.raises(UsageError, match="ended"):
        session.append(Chunk(torch.zeros(8, 3), 2.0, 3.0, "video"))


def test_a_silent_stream_does_not_fill_memory() -> None:
    session = Session(WORLD, modalities=["video", "audio"])
    with pytest.raises(LimitError, match="wait for the stream 'video'"):
        session.append(Chunk(torch.zeros(5 * (MAX_WAITING + 1), 3), 0.0, 0.1 * (MAX_WAITING + 1), "audio"))
