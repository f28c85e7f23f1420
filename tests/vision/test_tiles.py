"""Pictures are cut into tiles as transformers cuts them, pixel for pixel."""

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
from mmworld.media import gate, image
from mmworld.models.zoo.processors import read

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
LIMIT = 1e-3
CANVASES = [[12, 24], [24, 12], [24, 24], [36, 12], [12, 36]]
KINDS: dict[str, dict[str, Any]] = {
    "LlavaNext": {"size": {"shortest_edge": 12}, "crop_size": {"height": 12, "width": 12}},
    "LlavaNext, cropped": {"size": {"shortest_edge": 15}, "crop_size": {"height": 12, "width": 12}},
    "LlavaOnevision": {"size": {"height": 12, "width": 12}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
}


def processor(kind: str, **changes: Any) -> Any:
    given = {"image_grid_pinpoints": CANVASES, **KINDS[kind], **changes}
    return getattr(hf, f"{kind.split(',')[0]}ImageProcessorPil")(**given)


@pytest.mark.parametrize("kind", KINDS)
@given(height=st.integers(1, 90), width=st.integers(1, 90))
def test_any_picture_is_cut_as_the_reference_does(
    kind: str, tmp_path_factory: pytest.TempPathFactory, height: int, width: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / kind
    theirs = processor(kind)
    theirs.save_pretrained(folder)
    picture = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), np.uint8)
    got = read(folder)["image"](torch.from_numpy(picture).permute(2, 0, 1))
    want = theirs(picture, input_data_format="channels_last", return_tensors="pt")
    assert got.size == (height, width) == tuple(want.image_sizes[0].tolist())
    assert got.pixels.shape == want.pixel_values[0].shape
    assert float((got.pixels - want.pixel_values[0]).abs().max()) <= LIMIT


@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_a_picture_among_others_is_prepared_whole(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int
) -> None:
    folder, theirs = tmp_path_factory.getbasetemp() / "whole", processor("LlavaOnevision", image_mean=[0.2, 0.5, 0.7])
    theirs.save_pretrained(folder)
    picture = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), np.uint8)
    got = read(folder)["image"].whole(torch.from_numpy(picture).permute(2, 0, 1))
    want = theirs([[picture, picture]], input_data_format="channels_last", return_tensors="pt").pixel_values[1]
    assert got.pixels.shape == want.shape
    assert float((got.pixels - want).abs().max()) <= LIMIT


SQUARE = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}


@pytest.mark.parametrize(("kind", "given"), [("LlavaNext", SQUARE), ("LlavaOnevision", {})])
def test_photographs_are_cut_as_the_reference_does(
    kind: str, given: dict[str, Any], shared_data: Path, tmp_path: Path
) -> None:
    theirs = getattr(hf, f"{kind}ImageProcessorPil")(**given)
    theirs.save_pretrained(tmp_path)
    ours = read(tmp_path)["image"]
    for name in ("astronaut.png", "chelsea.png", "coffee.png"):
        picture = image.read(gate.open_media(shared_data / "media" / "image" / name))
        want = theirs(picture.permute(1, 2, 0).numpy(), return_tensors="pt").pixel_values[0]
        got = ours(picture).pixels
        assert got.shape == want.shape
        assert float((got - want).abs().max()) <= LIMIT


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_grid_pinpoints": []}, "image_grid_pinpoints"),
        ({"image_grid_pinpoints": [[12, 20]]}, "12 x 20 is not cut into tiles of 12"),
        ({"image_grid_pinpoints": [[12 * 257, 12]]}, "at most 256"),
        ({"size": {"height": 9}}, "needs height and width"),
    ],
)
def test_a_file_that_asks_for_something_else_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    given = {**processor("LlavaOnevision").to_dict(), **change}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(given))
    with pytest.raises(ConfigError, match=said):
        read(tmp_path)
