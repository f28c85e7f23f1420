"""What is brought to one space with texts, apart from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from borrowed import check

from mmworld.errors import ConfigError
from mmworld.models.zoo.align import ALIGN
from mmworld.models.zoo.parity.case import both, noise
from mmworld.models.zoo.parity.joint import CLIP_TEXTS, LATE_FILMS
from mmworld.models.zoo.xclip import XCLIP


def test_pictures_as_wide_as_texts_are_asked_for() -> None:
    parts = {"text_config": {"model_type": "align_text_model"}, "vision_config": {"model_type": "align_vision_model"}}
    with torch.device("meta"), pytest.raises(ConfigError, match="projection_dim 512, pictures have 640"):
        ALIGN({"model_type": "align", "projection_dim": 512, **parts})


@torch.no_grad()
def test_films_and_texts_do_not_know_of_others(tmp_path: Path) -> None:
    ours, _ = both(LATE_FILMS["xclip"], tmp_path)
    films = noise(3, 3, 3, 16, 16)
    whole = ours(films, CLIP_TEXTS)
    check(whole[1:], ours(films[1:], CLIP_TEXTS))
    check(whole[:, 1:], ours(films, CLIP_TEXTS[1:]))


@torch.no_grad()
def test_films_of_another_length_and_texts_without_room_are_refused(tmp_path: Path) -> None:
    ours, _ = both(LATE_FILMS["xclip"], tmp_path)
    with pytest.raises(ValueError, match="4 frames, the model has learned 3"):
        ours.embed(noise(1, 4, 3, 16, 16))
    with pytest.raises(ValueError, match="without ids"):
        ours.embed_texts([()])
    with pytest.raises(ValueError, match="the model has learned"):
        ours.embed_texts([range(3, 16)])


def test_films_as_wide_as_texts_are_asked_for() -> None:
    parts = {"text_config": {"model_type": "xclip_text_model"}, "vision_config": {"model_type": "xclip_vision_model"}}
    with torch.device("meta"), pytest.raises(ConfigError, match="mit_hidden_size 512, projection_dim is 256"):
        XCLIP({"model_type": "xclip", "projection_dim": 256, **parts})
