"""A file that was left is gone on with from there: what is told is the same, and what came before is not decoded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import clip
from test_captioner import same
from test_opening import small_world

from mmworld.generate.stop import Stop
from mmworld.media.demux import Demuxer
from mmworld.media.gate import open_media
from mmworld.models.captioner import Captioner
from mmworld.models.live import Live
from mmworld.stream.policy import Every
from mmworld.types import Caption, Chunk

SECONDS, FPS, GOP, LEFT = 12, 25, 15, 8.0


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    noise = np.random.default_rng(0).standard_normal((SECONDS * 44_100, 1)).astype(np.float32) / 10
    path = tmp_path_factory.mktemp("movie") / "movie.mp4"
    path.write_bytes(clip(SECONDS * FPS, fps=FPS, options={"g": str(GOP), "bf": "2"}, sound=noise))
    return path


@pytest.mark.parametrize("repaired", [False, True])
def test_what_was_left_in_the_middle(
    movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repaired: bool
) -> None:
    teller = Captioner(small_world("video", "audio"), policy=Every(1.0), stop=Stop(4))
    want, state, media = teller.caption(movie), tmp_path / "state", open_media(movie)
    reached, saved = threading.Event(), threading.Event()
    if repaired:
        media.counts["discontinuity"] += 1

    def hold(chunk: Chunk) -> None:
        if chunk.end >= LEFT:
            reached.set()
            saved.wait(60)

    with Live(teller, [teller.open(media)], tap=hold) as live:
        assert reached.wait(60)
        future = live.save(state)
        saved.set()
        future.result(60)
    counts: list[str] = []
    decode = Demuxer._decode

    def counted(self: Demuxer, packet: Any) -> Iterator[Any]:
        counts.append(packet.stream.type)
        return decode(self, packet)

    monkeypatch.setattr(Demuxer, "_decode", counted)
    with Live(teller, [teller.open(movie)], resume=state) as live:
        before = live.before.captions
        assert same([e for e in live if isinstance(e, Caption)], want[before:])
    decoded = counts.count("video")
    assert decoded >= SECONDS * FPS if repaired else decoded <= (SECONDS - LEFT + 1) * FPS + 2 * GOP
