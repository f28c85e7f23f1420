"""Files made here, opened as chunks: they tile time, start and end where they should, and encode."""

from __future__ import annotations

import io
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from streams import tiny

from mmworld.errors import MediaError
from mmworld.modalities.image.encoder import fit
from mmworld.models.modality import check_modality
from mmworld.types import Chunk


def tiled(chunks: list[Chunk]) -> tuple[float, float, int]:
    """Start, end and rows of chunks that follow one another, the last alone marked."""
    assert [c.last for c in chunks] == [False] * (len(chunks) - 1) + [True]
    for a, b in pairwise(chunks):
        assert b.start == pytest.approx(a.end, abs=1e-6)
    return chunks[0].start, chunks[-1].end, sum(len(c.data) for c in chunks)


def tone(seconds: float, rate: int = 44_100) -> bytes:
    t = np.arange(round(seconds * rate)) / rate
    left = (20_000 * np.sin(2 * np.pi * 440 * t)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.stack((left, left), 1).tobytes())
    return file.getvalue()


def clip(path: Path, seconds: float, fps: int = 12) -> Path:
    """A video that grows brighter by ten grey levels a second."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for i in range(round(seconds * fps)):
            picture = np.full((48, 80, 3), 50 + 10 * i // fps, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def test_sound_is_resampled_and_mixed() -> None:
    chunks = list(tiny("audio").open(tone(1.5)))
    start, end, rows = tiled(chunks)
    assert (start, end, rows) == (0.0, pytest.approx(1.5, abs=1e-3), pytest.approx(24_000, abs=16))
    x = torch.cat([c.data for c in chunks])[:, 0]
    assert int(torch.fft.rfft(x[:16_000]).abs().argmax()) == 440
    check_modality(tiny("audio"), tone(0.4), rounds=1)


def test_a_span_of_sound() -> None:
    start, end, rows = tiled(list(tiny("audio").open(tone(1.5), start=0.5, end=1.1)))
    assert (start, end, rows) == (
        pytest.approx(0.5, abs=1e-4),
        pytest.approx(1.1, abs=1e-4),
        pytest.approx(9600, abs=2),
    )


def test_pictures_come_at_the_rate_and_size_of_the_encoder(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4", 3.0)
    chunks = list(tiny("video").open(path, start=1.0))
    assert tiled(chunks) == (1.0, 3.0, 8)
    pictures = torch.cat([c.data for c in chunks])
    side = tiny("video").config.size
    assert pictures.shape == (8, 3, side, side)
    levels = pictures.float().mean((1, 2, 3))
    assert levels.tolist() == pytest.approx([50 + 10 * (1 + i / 4) // 1 for i in range(8)], abs=6)
    check_modality(tiny("video"), path, rounds=1)


def test_a_picture_is_its_middle_square() -> None:
    picture = np.zeros((60, 100, 3), np.uint8)
    picture[:, 20:80] = (200, 100, 50)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    (chunk,) = tiny("image").open(file.getvalue())
    side = tiny("image").config.size
    assert (chunk.data.shape, chunk.last, chunk.start, chunk.end) == ((1, 3, side, side), True, 0.0, 0.0)
    assert chunk.data[0].flatten(1).T.unique(dim=0).tolist() == [[200, 100, 50]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 5), (300, 200), (96, 96)])
def test_any_picture_fits(shape: tuple[int, int]) -> None:
    image = torch.full((3, *shape), 77, dtype=torch.uint8)
    assert fit(image, 96).unique().tolist() == [77]
    assert fit(image, 96).shape == (3, 96, 96)


def test_a_recording_keeps_its_clock(tmp_path: Path) -> None:
    t = np.repeat(np.arange(60) / 30 + 5.0, 4)
    np.savez(tmp_path / "walk.npz", t=t, xyz=np.random.default_rng(0).normal(size=(240, 3)).astype(np.float32))
    chunks = list(tiny("points").open(tmp_path / "walk.npz"))
    start, end, rows = tiled(chunks)
    assert (start, rows) == (5.0, 240)
    assert end == pytest.approx(6.96875)  # of the sweep, a 32nd of a second, in which the last frame (6.967 s) falls
    assert len({len(c.data) for c in chunks}) <= 3
    assert tiled(list(tiny("points").open(tmp_path / "walk.npz", start=6.0, end=6.5)))[2] in (60, 64)
    check_modality(tiny("points"), tmp_path / "walk.npz", rounds=1)


def test_a_folder_is_a_cloud_for_each_hop(tmp_path: Path) -> None:
    for i in range(3):
        np.savetxt(tmp_path / f"{i}.xyz", np.random.default_rng(i).normal(size=(5, 3)))
    assert tiled(list(tiny("points").open(tmp_path))) == (0.0, 0.75, 15)
    check_modality(tiny("points"), tmp_path, rounds=1)


def test_a_series_comes_at_the_rate_of_the_encoder(tmp_path: Path) -> None:
    t = np.arange(0, 4, 0.02)
    np.savetxt(tmp_path / "s.csv", np.stack((t, 3 * t, -t), 1), delimiter=",", header="t,a,b", comments="")
    chunks = list(tiny("sensor").open(tmp_path / "s.csv", start=0.5, end=3.0))
    assert tiled(chunks) == (0.5, 3.0, 40)
    data = torch.cat([c.data for c in chunks])
    times = 0.5 + torch.arange(40) / 16
    torch.testing.assert_close(data, torch.stack((3 * times, -times), 1), rtol=1e-4, atol=1e-4)
    check_modality(tiny("sensor"), tmp_path / "s.csv", rounds=1)


@pytest.mark.parametrize("name", ["audio", "video", "image", "points", "sensor"])
def test_other_media_are_refused(name: str) -> None:
    other = tone(0.1) if name != "audio" else b"\x89PNG\r\n\x1a\n" + bytes(64)
    with pytest.raises(MediaError):
        list(tiny(name).open(other))


def test_real_media_obey_the_laws(shared_data: Path) -> None:
    media = shared_data / "media"
    check_modality(tiny("image"), media / "image" / "chelsea.png", rounds=1)
    sound = list(tiny("audio").open(media / "audio" / "jfk.flac", start=1.0, end=2.0))
    check_modality(tiny("audio"), sound, rounds=1)
    pictures = list(tiny("video").open(media / "video" / "sam2_01_dog.mp4", start=1.0, end=3.0))
    check_modality(tiny("video"), pictures, rounds=1)
    check_modality(tiny("points"), media / "pointcloud" / "pcl" / "ism_train_cat.pcd", rounds=1)
