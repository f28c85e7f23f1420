"""Opening: every stream of a source that the model takes, on one clock, as the adapters alone would read it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import clip, number, sound_file, tone
from toy import toy_tokenizer

from mmworld.errors import ConfigError, MediaError
from mmworld.generate.stop import Stop
from mmworld.models.captioner import Captioner, Failure
from mmworld.models.opening import LAG, open_modality, open_streams
from mmworld.models.world import World, WorldConfig
from mmworld.nn.transformer import TransformerConfig
from mmworld.stream.policy import Every
from mmworld.types import Caption, Chunk

SMALL = {"dim": 16, "depth": 1, "hidden": 16, "window": 2, "width": 8}


def small_world(*names: str) -> World:
    tokenizer, backbone = toy_tokenizer(), TransformerConfig(16, 1, 2)
    world = World(WorldConfig(backbone, dict.fromkeys(names, SMALL), len(tokenizer)), tokenizer).eval()
    with torch.no_grad():
        world.embedding[:259] = 0.0  # so that it says words
    return world


@pytest.fixture(scope="module")
def world() -> World:
    return small_world("image", "video", "audio", "points", "sensor")


@pytest.fixture(scope="module")
def movie() -> bytes:
    return clip(90, fps=15, sound=tone(6.0))


def joined(chunks: list[Chunk], name: str) -> torch.Tensor:
    return torch.cat([c.data for c in chunks if c.modality == name and len(c.data)])


@pytest.mark.parametrize("span", [{}, {"start": 1.0, "end": 4.0}])
def test_one_pass_is_what_each_adapter_reads(world: World, movie: bytes, span: dict[str, float]) -> None:
    opened = open_streams(world, movie, **span)
    assert opened.modalities == ("audio", "video")
    chunks = list(opened.chunks)
    for name in opened.modalities:
        alone = list(world.adapters[name].open(movie, **span))
        assert torch.equal(joined(chunks, name), joined(alone, name))
        mine = [c for c in chunks if c.modality == name]
        assert (mine[0].start, mine[-1].end) == (alone[0].start, alone[-1].end)
        assert [c.last for c in mine] == [False] * (len(mine) - 1) + [True]


def test_frames_looked_at_less_often_stand_longer(world: World, movie: bytes) -> None:
    every = joined(list(open_streams(world, movie, modalities=["video"]).chunks), "video")
    held = list(open_streams(world, movie, fps=1.0, modalities=["video"]).chunks)
    seen = [number(x) for x in joined(held, "video")]
    assert seen == [n for n in (0, 15, 30, 45, 60, 75) for _ in range(4)]
    assert len(seen) == len(every)
    assert all(c.end - c.start == pytest.approx(len(c.data) / 4) for c in held)
    often = open_streams(world, movie, fps=60.0, modalities=["video"])
    assert torch.equal(joined(list(often.chunks), "video"), every)


@pytest.mark.parametrize("sound", [tone(1.0), tone(11.0)], ids=["short", "long"])
def test_a_stream_that_lags_or_ends_does_not_hold_up_the_other(world: World, sound: np.ndarray) -> None:
    clocks = {"audio": 0.0, "video": 0.0}
    for chunk in open_streams(world, clip(60, fps=5, sound=sound)).chunks:
        clocks[chunk.modality] = max(clocks[chunk.modality], chunk.end)
        assert min(clocks.values()) >= chunk.start - 2 * LAG - 0.5
    assert clocks["video"] == pytest.approx(12.0)


def test_sources_of_every_kind(world: World, tmp_path: Path, movie: bytes) -> None:
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    (tmp_path / "a.wav").write_bytes(sound_file(tone(1.0)))
    (tmp_path / "a.csv").write_text("t,a,b\n" + "".join(f"{i / 16},{i},{-i}\n" for i in range(40)))
    (tmp_path / "a.xyz").write_text("".join(f"{i} {i % 7} {i % 3}\n" for i in range(50)))
    (tmp_path / "sweeps").mkdir()
    for i in range(3):
        (tmp_path / "sweeps" / f"{i}.xyz").write_text("".join(f"{j} {i} {j % 3}\n" for j in range(50)))
    expected = {"a.png": "image", "a.wav": "audio", "a.csv": "sensor", "a.xyz": "points", "sweeps": "points"}
    for name, modality in expected.items():
        opened = open_streams(world, tmp_path / name)
        chunks = list(opened.chunks)
        assert opened.modalities == (modality,)
        assert {c.modality for c in chunks} == {modality}
        assert chunks[-1].last
    assert open_streams(world, io.BytesIO(movie)).modalities == ("audio", "video")


def test_a_model_takes_what_it_has_adapters_for(world: World, movie: bytes) -> None:
    assert open_streams(small_world("audio", "image"), movie).modalities == ("audio",)
    assert open_streams(world, movie, modalities=["video"]).modalities == ("video",)
    sound = sound_file(tone(1.0))
    with pytest.raises(MediaError, match="no video"):
        open_streams(world, sound, modalities=["video"])
    with pytest.raises(MediaError, match="wanted is points"):
        open_streams(world, sound, modalities=["points"])
    with pytest.raises(MediaError, match="wanted is image, points"):
        open_streams(small_world("image", "points"), movie)
    with pytest.raises(ConfigError, match="no adapter for smell"):
        open_modality(world, "smell", movie)


def test_captions_of_real_files_and_of_streams_from_several(world: World, movie: bytes, tmp_path: Path) -> None:
    speaker = Captioner(world, Every(2.0), stop=Stop(2))
    (tmp_path / "a.csv").write_text("t,a\n" + "".join(f"{i / 16},{i}\n" for i in range(16 * 5)))
    together = speaker.caption(video=movie, sensor=tmp_path / "a.csv")
    assert [(c.start, c.end) for c in together] == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)]
    out = list(speaker.stream_many([movie, b"not a movie", sound_file(tone(1.5)), movie]))
    spans = [(o.start, o.end) if isinstance(o, Caption) else type(o) for o in out]
    assert spans[:4] == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0), Failure]
    assert spans[5:] == spans[:3]
