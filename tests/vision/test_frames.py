"""Frames are prepared as transformers' video processors prepare them, which need torchvision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import ConfigError
from mmworld.media import gate, video
from mmworld.models.zoo.processors import read
from mmworld.vision.preprocess import Frames

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
LIMIT = 1e-3
SQUARE = {"height": 16, "width": 16}
KINDS: dict[str, dict[str, Any]] = {
    "InstructBlipVideo": {"size": SQUARE},
    "LlavaNextVideo": {"size": {"shortest_edge": 16}, "crop_size": SQUARE},
    "LlavaOnevision": {"size": SQUARE},
    "Timesformer": {"size": {"shortest_edge": 16}, "crop_size": SQUARE},
    "VideoMAE": {"size": {"shortest_edge": 16}, "crop_size": SQUARE},
}


def processor(kind: str, **changes: Any) -> Any:
    pytest.importorskip("torchvision", reason="transformers' video processors need it")
    return getattr(hf, f"{kind}VideoProcessor")(**{**KINDS[kind], **changes})


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
@given(height=st.integers(1, 70), width=st.integers(1, 70), frames=st.integers(1, 3))
def test_any_film_is_prepared_as_the_reference_does(
    kind: str, resample: int, tmp_path_factory: pytest.TempPathFactory, height: int, width: int, frames: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"{kind}{resample}"
    theirs = processor(kind, resample=resample)
    theirs.save_pretrained(folder)
    film = np.random.default_rng(height * 100 + width).integers(0, 256, (frames, height, width, 3), np.uint8)
    got = read(folder)["video"](torch.from_numpy(film).permute(0, 3, 1, 2))
    (want,) = theirs(film, input_data_format="channels_last", return_tensors="pt").values()
    assert got.shape == want[0].shape
    assert float((got - want[0]).abs().max()) <= LIMIT


@pytest.mark.parametrize("kind", KINDS)
def test_films_are_prepared_as_the_reference_does(kind: str, shared_data: Path, tmp_path: Path) -> None:
    theirs = processor(kind, size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    theirs.save_pretrained(tmp_path)
    media = gate.open_media(shared_data / "media" / "video" / "arm_wrestling.mp4")
    film = torch.stack([frame.data for frame in video.uniform(media, 4)])
    (want,) = theirs(film.permute(0, 2, 3, 1).numpy(), return_tensors="pt").values()
    assert float((read(tmp_path)["video"](film) - want[0]).abs().max()) <= LIMIT


def test_old_files_prepare_films_as_pictures(shared_data: Path, tmp_path: Path) -> None:
    said = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    theirs = hf.VideoMAEImageProcessorPil(**said)
    theirs.save_pretrained(tmp_path)
    media = gate.open_media(shared_data / "media" / "video" / "arm_wrestling.mp4")
    film = torch.stack([frame.data for frame in video.uniform(media, 4)])
    want = theirs(list(film.permute(0, 2, 3, 1).numpy()), return_tensors="pt").pixel_values[0]
    got = torch.stack([read(tmp_path)["image"](frame) for frame in film])
    assert float((got - want).abs().max()) <= LIMIT


def test_frames_differ_from_pictures_by_rounding_alone(shared_data: Path, tmp_path: Path) -> None:
    said = {**SAID, "size": {"height": 90, "width": 120}}
    media = gate.open_media(shared_data / "media" / "video" / "arm_wrestling.mp4")
    film = torch.stack([frame.data for frame in video.uniform(media, 4)])
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({**said, "image_processor_type": "ViTImageProcessor"})
    )
    (tmp_path / "video_preprocessor_config.json").write_text(
        json.dumps({**said, "video_processor_type": "LlavaOnevisionVideoProcessor"})
    )
    found = read(tmp_path)
    levels = (found["video"](film) - torch.stack([found["image"](x) for x in film])) * 127.5
    assert float(levels.abs().max()) <= 3.0
    assert float(levels.abs().mean()) <= 0.05


SAID = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": SQUARE}


def test_a_film_s_file_is_found_by_old_names_too(tmp_path: Path) -> None:
    tiled = {**SAID, "image_processor_type": "LlavaNextImageProcessor", "image_grid_pinpoints": [[16, 32]]}
    pictures, films = (tmp_path / f"{of}preprocessor_config.json" for of in ("", "video_"))
    pictures.write_text(json.dumps(tiled))
    assert read(tmp_path).keys() == {"image"}
    pictures.write_text(json.dumps({**tiled, "processor_class": "LlavaNextVideoProcessor"}))
    assert read(tmp_path)["video"] == Frames(SQUARE, (0.5,) * 3, (0.5,) * 3)
    films.write_text(json.dumps({**SAID, "size": 30, "image_processor_type": "LlavaOnevisionVideoProcessor"}))
    assert read(tmp_path)["video"].size == 30
    assert read(tmp_path)["image"].canvases == ((16, 32),)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"resample": 1}, "resample"), ({"do_center_crop": True, "crop_size": 20}, "is larger than size")],
)
def test_a_file_that_asks_for_something_else_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    given = {**SAID, "video_processor_type": "LlavaOnevisionVideoProcessor", **change}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(given))
    with pytest.raises(ConfigError, match=said):
        read(tmp_path)
