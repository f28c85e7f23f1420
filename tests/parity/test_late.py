"""What is brought to one space with texts, apart from them."""

from __future__ import annotations

import pytest
import torch

from mmworld.errors import ConfigError
from mmworld.models.zoo.align import ALIGN


def test_pictures_as_wide_as_texts_are_asked_for() -> None:
    parts = {"text_config": {"model_type": "align_text_model"}, "vision_config": {"model_type": "align_vision_model"}}
    with torch.device("meta"), pytest.raises(ConfigError, match="projection_dim 512, pictures have 640"):
        ALIGN({"model_type": "align", "projection_dim": 512, **parts})
