"""A camera whose pictures change their size, within a connection or in the next, is watched on."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import av
import pytest
from clips import clip
from test_live_borrowed import Witness

import mmworld
from mmworld.generate.stop import Stop
from mmworld.media.budget import Budget
from mmworld.media.devices import live
from mmworld.media.gate import Media
from mmworld.types import Caption, Chunk, Takes
from mmworld.verbs import watch as module


class Eye(Witness):
    """Is shown films."""

    takes: ClassVar[Takes] = Takes(("video",), frames=16)


def seconds(start: float, width: int, height: int) -> bytes:
    """Two, of MPEG-TS."""
    stamps = [round((start + i / 10) * 10_000) for i in range(20)]
    return clip(20, fps=10, pts=stamps, width=width, height=height, container="mpegts")


CONNECTIONS = {
    "within one": [seconds(0.0, 64, 48) + seconds(2.0, 128, 128)],
    "in the next": [seconds(0.0, 64, 48), seconds(0.0, 48, 128)],
}


@pytest.mark.parametrize("borrowed", [False, True])
@pytest.mark.parametrize("change", CONNECTIONS)
def test_a_size_that_changes_within_a_segment(change: str, borrowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    left, seen = list(CONNECTIONS[change]), list[Chunk]()
    said: list[Caption] = []

    def connect(*_: object, **__: object) -> Media:
        file = io.BytesIO(left.pop(0) if left else seconds(0.0, 32, 32))
        media = live(av.open(file, format="mpegts"), "cam", "mpegts", Budget(seconds=math.inf))
        media.duration = None  # a camera's is not known
        return media

    monkeypatch.setattr(module, "open_device", connect)
    how: dict[str, Any] = {"model": Eye()} if borrowed else {}
    with mmworld.watch("/dev/video0", policy=mmworld.Every(3.0), stop=Stop(9), tap=seen.append, **how) as events:
        for event in events:
            said += [event] if isinstance(event, Caption) else []
            if said:
                break
    assert (said[0].start, said[0].end) == (0.0, 3.0)
    assert shapes(seen, borrowed) == expected(change, borrowed)


def shapes(seen: Sequence[Chunk], borrowed: bool) -> list[tuple[int, ...]]:
    """Of the pictures of the first four seconds, each once."""
    first = [tuple(c.data.shape[1:]) for c in seen if len(c.data) and c.end <= 4.0]
    return list(dict.fromkeys(first))


def expected(change: str, borrowed: bool) -> list[tuple[int, ...]]:
    if not borrowed:
        return [(3, 96, 96)]
    return [(3, 48, 64)] if change == "within one" else [(3, 48, 64), (3, 128, 48)]
