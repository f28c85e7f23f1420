"""EfficientNet is scaled as the reference is, and sees pictures of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from masks import relative_error

from mmworld.errors import ConfigError
from mmworld.models.zoo.parity.case import LIMIT, both, noise
from mmworld.models.zoo.parity.vision import CASES
from mmworld.vision.efficientnet import EfficientNet, EfficientNetConfig

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
SCALES = {"b0": (1.0, 1.0, 1280), "b1": (1.0, 1.1, 1280), "b3": (1.2, 1.4, 1536), "b7": (2.0, 3.1, 2560)}
"""Width, depth and last map, of table 4's networks as they were released."""


@given(channels=st.integers(1, 2000), width=st.floats(0.05, 4), divisor=st.integers(1, 16))
def test_widths_are_scaled_as_the_reference_s(channels: int, width: float, divisor: int) -> None:
    from transformers.models.efficientnet import modeling_efficientnet as reference

    told = hf.EfficientNetConfig(width_coefficient=width, depth_divisor=divisor)
    sizes: dict[str, Any] = {"width_coefficient": width, "depth_divisor": divisor}
    ours = EfficientNetConfig("efficientnet", **sizes)
    assert ours.wide(channels) == reference.round_filters(told, channels)


@pytest.mark.parametrize("name", SCALES)
def test_the_released_networks_have_the_reference_s_tensors(name: str) -> None:
    width, depth, last = SCALES[name]
    said = {"width_coefficient": width, "depth_coefficient": depth, "hidden_dim": last}
    with torch.device("meta"):
        ours, theirs = (
            EfficientNet({"model_type": "efficientnet", **said}),
            hf.EfficientNetModel(hf.EfficientNetConfig(**said)),
        )
    ours.keymap.check(ours, theirs.state_dict(), where=name)


@torch.no_grad()
def test_pictures_of_any_size_are_seen_as_the_reference_sees_them(tmp_path: Path) -> None:
    ours, theirs = both(CASES["efficientnet"], tmp_path)
    for size in ((17, 32), (31, 9), (64, 33)):
        told = theirs(noise(2, 3, *size))
        x = ours(noise(2, 3, *size))
        assert relative_error(x, told.last_hidden_state) <= LIMIT
        assert relative_error(ours.pool(x), told.pooler_output) <= LIMIT


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strides": [1, 2]}, "must be equally long"),
        ({"strides": [3] * 7}, "strides"),
        ({"depth_coefficient": 99.0}, "1584 blocks, at most 1024"),
        ({"width_coefficient": 0.0}, "greater than 0"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"pooling_type": "first"}, "pooling_type"),
    ],
)
def test_a_config_that_asks_for_something_else_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        EfficientNet({"model_type": "efficientnet", **change})
