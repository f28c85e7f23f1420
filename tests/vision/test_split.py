"""Pictures are cut into squares as transformers cuts them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from mmworld.errors import ConfigError
from mmworld.media import gate, image
from mmworld.models.zoo.processors import read
from mmworld.vision.split import Splitting, bounded, multiple

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
LIMIT = 1e-3
SIZES: dict[str, Any] = {"size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 32}}
KINDS = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}


def theirs(kind: str, **changes: Any) -> Any:
    return getattr(hf, f"{KINDS[kind]}ImageProcessorPil")(**{**SIZES, **changes})


def ours(kind: str, folder: Path, **changes: Any) -> Splitting:
    theirs(kind, **changes).save_pretrained(folder)
    found = read(folder)["image"]
    assert isinstance(found, Splitting)
    return found


def check(got: Any, reference: Any, picture: np.ndarray[Any, Any]) -> None:
    """The same squares, rows and columns."""
    told = reference([[picture]], input_data_format="channels_last", return_tensors="pt", return_row_col_info=True)
    assert (got.rows, got.columns) == (told["rows"][0][0], told["cols"][0][0])
    assert told.pixel_attention_mask.all()
    assert float((got.pixels - told.pixel_values[0]).abs().max()) <= LIMIT


@pytest.mark.parametrize("split", [True, False])
@given(height=st.integers(1, 70), width=st.integers(1, 70))
@example(height=1, width=3000)
@example(height=200, width=1)
def test_any_picture_is_cut_as_the_reference_does(
    split: bool, tmp_path_factory: pytest.TempPathFactory, height: int, width: int
) -> None:
    changes = {"do_image_splitting": split}
    prepare = ours("idefics3", tmp_path_factory.getbasetemp() / f"split {split}", **changes)
    picture = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), np.uint8)
    check(prepare(torch.from_numpy(picture).permute(2, 0, 1)), theirs("idefics3", **changes), picture)


@functools.cache
def sizes() -> Any:
    from transformers.models.idefics3 import image_processing_pil_idefics3

    return image_processing_pil_idefics3


@given(height=st.integers(1, 9000), width=st.integers(1, 9000), longest=st.sampled_from([364, 1456, 2048, 6000]))
def test_sides_are_those_of_the_reference(height: int, width: int, longest: int) -> None:
    want = sizes().get_resize_output_image_size(np.zeros((height, width)), longest)
    assert bounded(height, width, longest) == want
    prepare = theirs("idefics3", max_image_size={"longest_edge": 364})
    prepare.resize = lambda image, size, resample: (size.height, size.width)
    assert multiple(*want, 364) == prepare.resize_for_vision_encoder(np.zeros(want), 364)


@pytest.mark.parametrize("kind", KINDS)
def test_photographs_are_cut_as_the_reference_does(kind: str, shared_data: Path, tmp_path: Path) -> None:
    whole: dict[str, Any] = {"size": {"longest_edge": 1456}, "max_image_size": {"longest_edge": 364}}
    prepare = ours(kind, tmp_path, **whole)
    for name in ("astronaut.png", "chelsea.png"):
        picture = image.read(gate.open_media(shared_data / "media" / "image" / name))
        check(prepare(picture), theirs(kind, **whole), picture.permute(1, 2, 0).numpy())


@given(height=st.integers(8, 70), width=st.integers(8, 70), frames=st.integers(1, 3))
def test_frames_are_prepared_as_pictures_that_are_not_cut(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, frames: int
) -> None:
    sampling = {"video_size": {"longest_edge": 48}, "fps": 1, "max_frames": 64}
    prepare = ours("smolvlm", tmp_path_factory.getbasetemp() / "frames", video_sampling=sampling)
    film = np.random.default_rng(height * 100 + width).integers(0, 256, (frames, height, width, 3), np.uint8)
    # transformers' processor of films needs torchvision, and then does with them what it does with such pictures
    reference = theirs("smolvlm", do_image_splitting=False, size={"longest_edge": 48})
    told = reference([[*film]], input_data_format="channels_last", return_tensors="pt")
    got = prepare.film(torch.from_numpy(film).permute(0, 3, 1, 2))
    assert float((got - told.pixel_values[0]).abs().max()) <= LIMIT


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": {"shortest_edge": 9}}, "longest_edge"),
        ({"size": {}}, "size"),
        ({"max_image_size": {"longest_edge": 2}}, "greater than or equal to 32"),
        ({"do_resize": False}, "do_resize"),
    ],
)
def test_a_file_that_asks_for_something_else_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Splitting.read({**theirs("idefics3").to_dict(), **change}, "preprocessor_config.json")
