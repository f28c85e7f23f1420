"""Real files against the timestamps and pictures that torchcodec's authors published, and against each backend."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmworld.media.audio import samples
from mmworld.media.gate import Media, open_media
from mmworld.media.image import read as read_image
from mmworld.media.pictures import Pictures
from mmworld.media.read import read
from mmworld.media.sound import Sound
from mmworld.media.video import frames, frames_at


@pytest.fixture(scope="module")
def folder(shared_data) -> Path:
    return Path(shared_data) / "media"


def seen(path: Path) -> tuple[Media, list[float]]:
    media = open_media(path)
    return media, [f.time for f in frames(media, size=16)]


def test_timestamps_are_the_published_ones(folder):
    clips = folder / "video" / "torchcodec"
    published = json.loads((clips / "nasa_13013.mp4.stream3.all_frames_info.json").read_text())
    expected = [float(frame["pts_time"]) for frame in published]
    _, times = seen(clips / "nasa_13013.mp4")
    assert np.allclose(times, expected, atol=1e-6)


def test_pictures_are_the_published_ones(folder):
    clips = folder / "video" / "torchcodec"
    expected = torch.load(clips / "nasa_13013.mp4.stream3.frame000035.pt", weights_only=True)
    expected = expected if expected.shape[0] == 3 else expected.permute(2, 0, 1)
    found = list(frames(open_media(clips / "nasa_13013.mp4")))[35].data
    assert found.shape == expected.shape
    assert (found.float() - expected.float()).abs().mean() < 1


def test_sound_is_as_long_as_published(folder):
    clips = folder / "video" / "torchcodec"
    published = json.loads((clips / "nasa_13013.mp4.audio.mp3.stream0.all_frames_info.json").read_text())
    first, last = published[0], published[-1]
    end = float(last["pts_time"]) + float(last["duration_time"]) - float(first["pts_time"])
    pieces = list(samples(open_media(clips / "nasa_13013.mp4.audio.mp3")))
    assert sum(len(p.data) for p in pieces) / 8000 == pytest.approx(end, abs=0.02)


@pytest.mark.parametrize(
    ("name", "n_frames", "last"),
    [
        ("torchcodec/h265_video.mp4", 10, 0.9),
        ("torchcodec/h264_10bits.mp4", 30, 29 / 30),
        ("torchcodec/av1_video.mkv", 125, 4.96),
        ("torchcodec/bt709_full_range.mp4", 30, 29 / 30),
        ("unordered.mov", 4, 3 / 32),
        ("newtonscradle.gif", 36, 0.8),
        ("apply_eye_makeup.avi", 164, 6.56),
        ("realshort.mp4", 36, 1.166),
    ],
)
def test_every_frame_in_order(folder, name, n_frames, last):
    media, times = seen(folder / "video" / name)
    assert len(times) == n_frames
    assert times[-1] == pytest.approx(last, abs=1e-3)
    assert (np.diff(times) > 0).all()
    assert media.warnings == []


def test_a_corrupted_file_gives_what_can_be_seen(folder):
    media, times = seen(folder / "video" / "corrupted.mp4")
    assert len(times) >= 45
    assert any(w.startswith("corrupt packets") for w in media.warnings)


def test_a_turned_camera(folder):
    [plain] = frames_at(open_media(folder / "video" / "video_0.mov"), [0.0])
    [turned] = frames_at(open_media(folder / "video" / "video_90.mov"), [0.0])
    assert plain.data.shape == (3, 320, 568)
    assert turned.data.shape == (3, 568, 320)


@pytest.mark.parametrize("name", ["arm_wrestling.mp4", "flipping_a_pancake.mkv", "video_90.mov", "sam2_bedroom.mp4"])
def test_decord_shows_the_same(folder, name):
    pytest.importorskip("decord")
    media = open_media(folder / "video" / name)
    times = np.random.default_rng(0).uniform(0, media.duration or 1, 4).tolist()
    for a, b in zip(frames_at(media, times, size=64), frames_at(media, times, size=64, backend="decord"), strict=True):
        assert (a.data.float() - b.data.float()).abs().mean() < 2


def test_pictures_and_sound_end_together(folder):
    media = open_media(folder / "video" / "sam2_01_dog.mp4")
    found = list(read(media, video=Pictures(fps=2, size=32), audio=Sound(16_000, mono=True)))
    assert [p.time for p in found] == sorted(p.time for p in found)
    assert found[-1].time == pytest.approx(media.duration or 0, abs=0.5)


def test_lossless_and_lossy_agree(folder):
    speech = folder / "audio" / "ljspeech"
    forms = [
        torch.cat([p.data for p in samples(open_media(speech / f"LJ001-0001.{end}"), rate=16_000)])
        for end in ("wav", "flac", "mp3")
    ]
    n = min(map(len, forms))
    assert torch.equal(forms[0], forms[1])
    assert torch.corrcoef(torch.stack([forms[0][:n, 0], forms[2][:n, 0]]))[0, 1] > 0.98


def test_photographs(folder):
    for path in sorted((folder / "image").glob("**/*.*g")):
        x = read_image(open_media(path))
        assert x.dtype == torch.uint8
        assert x.shape[0] == 3
        assert x.float().std() > 5
