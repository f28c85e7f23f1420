"""Picture encoders beyond their own size, and out of larger models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from borrowed import check

from mmworld.models.zoo.parity.case import both, noise
from mmworld.models.zoo.parity.joint import LATE
from mmworld.models.zoo.parity.vision import CASES as PICTURES


@torch.no_grad()
@pytest.mark.parametrize("name", ["dinov2", "dinov2_with_registers"])
@pytest.mark.parametrize("size", [(24, 12), (8, 8), (18, 16)])
def test_places_lie_between_those_learned(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    ours, theirs = both(PICTURES[name], tmp_path)
    check(ours(noise(2, 3, *size)), theirs(noise(2, 3, *size)).last_hidden_state)


@torch.no_grad()
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_do_not_know_of_each_other(name: str, tmp_path: Path) -> None:
    ours, _ = both(PICTURES[name], tmp_path)
    pictures = noise(3, 3, 16, 16)
    check(ours(pictures)[1:], ours(pictures[1:]))


@pytest.mark.parametrize("name", LATE)
def test_texts_without_room_are_refused(name: str, tmp_path: Path) -> None:
    ours, _ = both(LATE[name], tmp_path)
    with pytest.raises(ValueError, match="the model has learned"):
        ours.embed_texts([range(3, 16)])
    if name != "siglip":
        with pytest.raises(ValueError, match="without ids"):
            ours.embed_texts([(48, 49), ()])
