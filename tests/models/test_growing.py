"""A folder that grows is one stream on one clock, whatever is in it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from clips import clip, tone
from PIL import Image
from test_five_senses import world as five_senses
from test_live_borrowed import Witness

import mmworld
from mmworld.errors import SourceError
from mmworld.generate.stop import Stop
from mmworld.media import follow
from mmworld.models.growing import open_growing
from mmworld.models.opening import open_streams
from mmworld.models.world import World
from mmworld.stream.policy import Every
from mmworld.types import Chunk, Gap, Takes

world = five_senses


class Eye(Witness):
    """Is shown pictures."""

    takes: ClassVar[Takes] = Takes(("image",))


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL", 0.01)
    monkeypatch.setattr(follow, "SETTLED", 0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def drained(world: World, folder: Path, until: Callable[[Chunk | Gap], bool]) -> list[Chunk | Gap]:
    """What the files of a folder give, which is removed after the first item of which `until` is true."""
    items: list[Chunk | Gap] = []
    cloud = world.adapters["points"].hop
    for item in open_growing(lambda path: open_streams(world, path), folder, cloud=cloud).chunks:
        items.append(item)
        if until(item):
            shutil.rmtree(folder, ignore_errors=True)
    return items


def chunks(items: list[Chunk | Gap], modality: str) -> list[Chunk]:
    return [i for i in items if isinstance(i, Chunk) and i.modality == modality]


def test_pictures_stand_for_a_second_each(world: World, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i in (1, 2, 10):
        Image.fromarray(np.full((40, 40, 3), i, np.uint8)).save(folder / f"{i}.png")
    (folder / "3.png").write_text("not a picture")
    with caplog.at_level(logging.WARNING):
        items = drained(world, folder, lambda i: i.start >= 2.0)
    seen = chunks(items, "image")
    found = [(c.start, c.end, int(c.data[0, 0, 0, 0])) for c in seen if len(c.data)]
    assert found == [(0.0, 1.0, 1), (1.0, 2.0, 2), (2.0, 3.0, 10)]
    assert items == seen, "and no gap lies between them"
    assert [c.last for c in seen] == [False, False, False, True]
    assert "3.png" in caplog.text


def test_clips_follow_one_another(world: World, folder: Path) -> None:
    """The one in the middle has no sound: that is a gap, and what follows keeps its time."""
    for i, heard in enumerate((True, False, True)):
        sound = tone(2.0, 16_000) if heard else None
        (folder / f"{i}.mkv").write_bytes(clip(8, fps=4, container="matroska", sound=sound, sound_rate=16_000))
    items = drained(world, folder, lambda i: i.start > 5.0)
    for modality in ("video", "audio"):
        mine = [i for i in items if i.modality == modality]
        for before, after in pairwise(mine):
            assert after.start == pytest.approx(before.end, abs=0.06)
        assert mine[-1].end == pytest.approx(6.0, abs=0.1)
    (gap,) = [i for i in items if isinstance(i, Gap)]
    assert (gap.modality, gap.reason) == ("audio", "outage")
    assert (gap.start, gap.end) == pytest.approx((2.0, 4.0), abs=0.06)
    shown = chunks(items, "video")
    assert sum(len(c.data) for c in shown) == pytest.approx(24, abs=1)


def test_clouds_stand_for_their_hop_as_in_a_folder_that_does_not_grow(world: World, folder: Path) -> None:
    for i in range(4):
        np.savetxt(folder / f"{i}.xyz", np.random.default_rng(i).normal(size=(20, 3)))
    still = [c for c in open_streams(world, folder).chunks if len(c.data)]
    grown = drained(world, folder, lambda i: i.start >= still[-1].start and isinstance(i, Chunk) and len(i.data) > 0)
    for a, b in zip(still, [c for c in chunks(grown, "points") if len(c.data)], strict=True):
        assert (a.start, a.end) == pytest.approx((b.start, b.end))
        assert torch.equal(a.data, b.data)


def test_a_folder_that_is_removed_empty(world: World, folder: Path) -> None:
    folder.rmdir()
    with pytest.raises(SourceError, match="was removed"):
        open_growing(lambda path: open_streams(world, path), folder)


def test_a_borrowed_model_follows_as_well(folder: Path) -> None:
    """What it is shown of two clips is what it is shown of each: the second begins where the first ended."""
    for i in range(2):
        (folder / f"{i}.mkv").write_bytes(clip(8, fps=4, width=32 + 32 * i, container="matroska"))
    told: list[Any] = []
    with mmworld.watch(folder, model=Witness(), policy=Every(1.0), stop=Stop(9), follow=True, fps=4.0) as live:
        for event in live:
            told.append(event)
            if len(told) == 3:
                shutil.rmtree(folder)
    assert [(c.start, c.end) for c in told] == [(i, i + 1.0) for i in range(4)]
    assert len({c.text for c in told}) == 4


def test_a_borrowed_model_follows_pictures_of_any_size(folder: Path) -> None:
    for i, size in enumerate((20, 40, 30)):
        Image.fromarray(np.full((size, 40, 3), 50 * i, np.uint8)).save(folder / f"{i}.png")
    told: list[Any] = []
    with mmworld.watch(folder, model=Eye(), policy=Every(1.0), stop=Stop(9), follow=True) as live:
        for event in live:
            told.append(event)
            if len(told) == 2:
                shutil.rmtree(folder)
    assert [(c.start, c.end) for c in told] == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
