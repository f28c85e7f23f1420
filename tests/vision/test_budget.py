"""Pictures and films within a budget of pixels are prepared as transformers prepares them, patch for patch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmworld.errors import ConfigError, LimitError
from mmworld.media import gate, image
from mmworld.media.video import uniform
from mmworld.models.zoo.processors import read
from mmworld.vision.boxes import Boxes

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
LIMIT = 1e-3
LEVELS = 2.01 / 255 / 0.26
"""Two of 255 steps of a colour, normalised."""
SMALL: dict[str, Any] = {"size": {"shortest_edge": 8 * 8 * 4, "longest_edge": 8 * 8 * 40}, "patch_size": 4}
BOXES = Boxes(2, 4, 2)


def noise(t: int, height: int, width: int) -> Tensor:
    seed = torch.Generator().manual_seed(height * 100 + width)
    return torch.randint(0, 256, (t, 3, height, width), dtype=torch.uint8, generator=seed)


def checked(got: Tensor, want: Any, boxes: Boxes) -> float:
    """The largest difference from pictures' or a film's patches, whose grid is the same."""
    name = "_videos" if "video_grid_thw" in want else ""
    assert [list(boxes.grid(got))] == want["video_grid_thw" if name else "image_grid_thw"].tolist()
    return float((boxes.cut(got) - want[f"pixel_values{name}"]).abs().max())


@given(height=st.integers(1, 90), width=st.integers(1, 90))
def test_any_picture_is_prepared_as_the_reference_does(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int
) -> None:
    theirs, folder = hf.Qwen2VLImageProcessorPil(**SMALL), tmp_path_factory.getbasetemp() / "budget"
    theirs.save_pretrained(folder)
    picture = noise(1, height, width)
    want = theirs(picture[0].permute(1, 2, 0).numpy(), input_data_format="channels_last", return_tensors="pt")
    assert checked(read(folder)["image"](picture), want, BOXES) <= LIMIT


def test_photographs_are_prepared_as_the_reference_does(shared_data: Path, tmp_path: Path) -> None:
    theirs = hf.Qwen2VLImageProcessorPil()
    theirs.save_pretrained(tmp_path)
    for name in ("astronaut.png", "chelsea.png", "coffee.png"):
        picture = image.read(gate.open_media(shared_data / "media" / "image" / name))
        want = theirs(picture.permute(1, 2, 0).numpy(), return_tensors="pt")
        assert checked(read(tmp_path)["image"](picture[None]), want, Boxes(2, 14, 2)) <= LIMIT


def said_of_films(folder: Path, **given: Any) -> Any:
    """What prepares films, from a file as transformers writes it."""
    told = {"video_processor_type": "Qwen2VLVideoProcessor", **given}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(told))
    return read(folder)["video"]


@given(t=st.integers(1, 5), height=st.integers(1, 90), width=st.integers(1, 90), most=st.none() | st.integers(1, 60))
def test_any_film_is_prepared_as_the_reference_does(
    tmp_path_factory: pytest.TempPathFactory, t: int, height: int, width: int, most: int | None
) -> None:
    pytest.importorskip("torchvision", reason="transformers prepares films with torchvision, which is not installed")
    capped = {} if most is None else {"cap_pixels_per_frame": True, "max_video_tokens": most}
    film, ours = noise(t, height, width), said_of_films(tmp_path_factory.getbasetemp(), **SMALL, **capped)
    want = hf.Qwen2VLVideoProcessor(**SMALL, **capped)(film, input_data_format="channels_first", return_tensors="pt")
    assert checked(ours(film), want, BOXES) <= LIMIT


@given(t=st.integers(1, 5), height=st.integers(1, 90), width=st.integers(1, 90))
def test_a_film_is_its_frames_as_pictures_but_for_rounding(
    tmp_path_factory: pytest.TempPathFactory, t: int, height: int, width: int
) -> None:
    """Pillow resamples pictures, torch films, and each rounds on the way; no colour here is cut off."""
    film, ours = noise(t, height, width) // 2 + 64, said_of_films(tmp_path_factory.getbasetemp(), **SMALL)
    got, theirs = ours(film), hf.Qwen2VLImageProcessorPil(**SMALL)
    assert len(got) == t + t % 2
    assert torch.equal(got[t:], got[t - 1 : t].expand(t % 2, -1, -1, -1))
    for frame, mine in zip(film, got, strict=False):
        want = theirs(frame.permute(1, 2, 0).numpy(), input_data_format="channels_last", return_tensors="pt")
        assert checked(mine[None].expand(2, -1, -1, -1), want, BOXES) <= LEVELS


@given(t=st.integers(1, 40), height=st.integers(20, 90), width=st.integers(20, 90), most=st.integers(100, 400))
def test_a_long_film_has_smaller_frames(
    tmp_path_factory: pytest.TempPathFactory, t: int, height: int, width: int, most: int
) -> None:
    said = {**SMALL, "size": {"shortest_edge": 1, "longest_edge": 1 << 20}, "max_video_tokens": most}
    whole, capped = (
        said_of_films(tmp_path_factory.getbasetemp(), **said, cap_pixels_per_frame=cap)(noise(t, height, width))
        for cap in (False, True)
    )
    tokens = [len(x) // 2 * x.shape[2] * x.shape[3] / 64 for x in (whole, capped)]
    seen_twice = t % 2  # a last frame without a second; the reference's rule does not count it
    assert tokens[1] <= min(tokens[0], 0.9 * most * (t + seen_twice) / t)


def test_real_films_are_prepared_as_the_reference_does(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="transformers prepares films with torchvision, which is not installed")
    for name in ("arm_wrestling.mp4", "sam2_01_dog.mp4"):
        media = gate.open_media(shared_data / "media" / "video" / name)
        film = torch.stack([f.data for f in uniform(media, 3)])
        want = hf.Qwen2VLVideoProcessor()(film, return_tensors="pt")
        assert checked(said_of_films(tmp_path)(film), want, Boxes(2, 14, 2)) <= LIMIT


def test_the_budget_has_names_of_all_versions(tmp_path: Path) -> None:
    bounds = {"min_pixels": 100, "max_pixels": 9000}
    for said in (bounds, {"size": {"shortest_edge": 100, "longest_edge": 9000}}, {**bounds, "size": None}):
        prepare = said_of_films(tmp_path, **said)
        assert (prepare.min_pixels, prepare.max_pixels) == (100, 9000)
    said = {"image_processor_type": "Qwen2VLImageProcessor", "size": {"shortest_edge": 4, "longest_edge": 5}, **bounds}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert read(tmp_path)["image"].max_pixels == 9000


@pytest.mark.parametrize("change", [{"resample": 1}, {"do_resize": False}, {"max_video_tokens": 0}])
def test_a_file_that_asks_for_something_else_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        said_of_films(tmp_path, **change)


def test_what_is_too_narrow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="a picture of 1 x 201 pixels is more than 200 times as long as wide"):
        said_of_films(tmp_path)(torch.zeros(1, 3, 201, 1, dtype=torch.uint8))
