"""Pictures are prepared as transformers prepares them, pixel for pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import ConfigError, LimitError
from mmworld.media import gate, image
from mmworld.models.zoo.processors import read

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
LIMIT = 1e-3
SQUARE = {"height": 12, "width": 18}
ALIGN = {"do_center_crop": True, "do_normalize": False, "include_top": False, "resample": 2}
ALIGN |= {"rescale_offset": True, "rescale_factor": 1 / 127.5}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": ("CLIP", {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}),
    "clip, crop wider than the picture": ("CLIP", {"size": {"shortest_edge": 9}, "crop_size": SQUARE}),
    "clip, crop alone": ("CLIP", {"do_resize": False, "crop_size": SQUARE}),
    "siglip": ("Siglip", {"size": SQUARE}),
    "vit": ("ViT", {"size": SQUARE}),
    "vivit": ("Vivit", {"size": {"shortest_edge": 16}, "crop_size": SQUARE}),
    "vivit, not less one": ("Vivit", {"size": {"shortest_edge": 16}, "crop_size": SQUARE, "offset": False}),
    "clip, one number": ("CLIP", {"size": 16, "crop_size": 14}),
    "resnet": ("ConvNext", {"size": {"shortest_edge": 16}, "crop_pct": 0.875}),
    "resnet, large": ("ConvNext", {"size": {"shortest_edge": 384}}),
    "blip": ("Blip", {"size": SQUARE}),
    "efficientnet": ("EfficientNet", {"size": SQUARE, "resample": 0}),
    "efficientnet, of features": ("EfficientNet", {"size": SQUARE, "include_top": False}),
    "align": ("EfficientNet", {"size": SQUARE, "crop_size": {"height": 9, "width": 14}, **ALIGN}),
    "idefics": ("Idefics", {"image_size": 15}),
    "dinov2": ("Bit", {"size": {"shortest_edge": 16}, "crop_size": {"height": 14, "width": 14}}),
}


def processor(kind: str, **changes: Any) -> Any:
    name, given = KINDS[kind]
    found = getattr(hf, f"{name}ImageProcessor" if name == "Vivit" else f"{name}ImageProcessorPil")
    return found(**{**given, **changes})


@pytest.mark.parametrize("kind", KINDS)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_picture_is_prepared_as_the_reference_does(
    kind: str, tmp_path_factory: pytest.TempPathFactory, height: int, width: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / kind
    theirs = processor(kind)
    theirs.save_pretrained(folder)
    picture = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), np.uint8)
    ours = read(folder)["image"]
    got = ours(torch.from_numpy(picture).permute(2, 0, 1))
    told = theirs(picture, input_data_format="channels_last", return_tensors="pt")
    want = getattr(told, "pixel_values", told).flatten(0, -4)[0]
    assert got.shape == want.shape
    assert float((got - want).abs().max()) <= LIMIT


@pytest.mark.parametrize("kind", ["clip", "siglip", "vit", "dinov2", "efficientnet", "align"])
def test_photographs_are_prepared_as_the_reference_does(kind: str, shared_data: Path, tmp_path: Path) -> None:
    whole = {"size": {"height": 224, "width": 224}}
    if kind in ("clip", "dinov2"):
        whole = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    theirs = processor(kind, **whole)
    theirs.save_pretrained(tmp_path)
    ours = read(tmp_path)["image"]
    for name in ("astronaut.png", "chelsea.png", "coffee.png"):
        picture = image.read(gate.open_media(shared_data / "media" / "image" / name))
        want = theirs(picture.permute(1, 2, 0).numpy(), return_tensors="pt").pixel_values[0]
        assert float((ours(picture) - want).abs().max()) <= LIMIT


@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_kosmos_2_s_square_is_the_reference_s(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int
) -> None:
    said = {**hf.CLIPImageProcessorPil().to_dict(), "image_processor_type": "CLIPImageProcessor"}
    said |= {"size": {"shortest_edge": 224}, "use_square_size": True}
    folder = tmp_path_factory.mktemp("square")
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    picture = np.random.default_rng(height * 300 + width).integers(0, 256, (height, width, 3), np.uint8)
    got = read(folder)["image"](torch.from_numpy(picture).permute(2, 0, 1))
    told = hf.CLIPImageProcessorPil.from_pretrained(folder)(picture, input_data_format="channels_last")
    assert got.shape == (3, 224, 224)
    assert float((got - torch.as_tensor(told.pixel_values[0])).abs().max()) <= LIMIT


def test_what_a_folder_says_is_found_in_either_file(tmp_path: Path) -> None:
    assert read(tmp_path) == {}
    said = processor("siglip").to_dict()
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": said, "processor_class": "X"}))
    assert read(tmp_path)["image"].size == SQUARE
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**said, "size": 30}))
    assert read(tmp_path)["image"](torch.zeros(3, 4, 5, dtype=torch.uint8)).shape == (3, 30, 30)


def test_what_asks_for_something_else_is_left_alone(tmp_path: Path) -> None:
    said = {**processor("siglip").to_dict(), "image_processor_type": "SamImageProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert read(tmp_path) == {}


def test_a_picture_too_narrow_is_refused(tmp_path: Path) -> None:
    processor("clip").save_pretrained(tmp_path)
    with pytest.raises(LimitError, match="a picture of 1 x 2000 pixels would be 32000 long, at most 16384"):
        read(tmp_path)["image"](torch.zeros(3, 2000, 1, dtype=torch.uint8))


def test_one_number_is_the_shorter_side_of_clip_s_and_both_of_vit_s(tmp_path: Path) -> None:
    for kind, wanted in (("clip", (20, 10)), ("vit", (10, 10))):
        said = {**processor(kind).to_dict(), "size": 10, "do_center_crop": False}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
        assert read(tmp_path)["image"](torch.zeros(3, 40, 20, dtype=torch.uint8)).shape == (3, *wanted)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": {"height": 9}}, "needs height and width"),
        ({"size": {"height": 0, "width": 9}}, "greater than 0"),
        ({"size": {"height": 9, "width": 1 << 20}}, "less than or equal to 16384"),
        ({"image_mean": [0.5, 0.5]}, "image_mean"),
        ({"do_rescale": False}, "do_rescale"),
        ({"do_center_crop": True}, "needs a crop_size"),
        ({"resample": 9}, "resample"),
    ],
)
def test_a_file_that_asks_for_something_else_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**processor("siglip").to_dict(), **change}))
    with pytest.raises(ConfigError, match=said):
        read(tmp_path)
