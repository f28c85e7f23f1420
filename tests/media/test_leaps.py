"""A live stream whose timestamps leap: what has passed is a gap, what has not is a counter that began anew."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any

import av
import pytest
from clips import clip, number, numbered, tone

from mmworld.media import demux
from mmworld.media.budget import Budget
from mmworld.media.devices import live
from mmworld.media.gate import Media, open_media
from mmworld.media.pictures import Frame, Pictures
from mmworld.media.read import Piece, read
from mmworld.media.sound import Samples, Sound
from mmworld.media.video import frames
from mmworld.models.opening import marked
from mmworld.stream.again import Backoff, again
from mmworld.types import Chunk, Gap

FPS, SECONDS, BLOCK = 10, 12, 188 * 4


def stretch(start: float, first: int = 0) -> bytes:
    """Twelve seconds of MPEG-TS, stamped from `start`, its pictures numbered from `first`; with a tone."""
    n = FPS * SECONDS
    return clip(
        n,
        fps=FPS,
        container="mpegts",
        pts=[round((start + i / FPS) * FPS * 1000) for i in range(n)],
        pictures=[numbered(first + i) for i in range(n)],
        sound=tone(float(SECONDS), 16_000),
        sound_rate=16_000,
        sound_start=start,
    )


class Arriving(io.RawIOBase):
    """Stretches of twelve seconds, each of which comes evenly from its time on; reading it takes that long."""

    def __init__(self, *stretches: tuple[float, bytes]) -> None:
        self.now = 0.0
        self._blocks = [
            (begin + SECONDS * i / len(data), data[i : i + BLOCK])
            for begin, data in stretches
            for i in range(0, len(data), BLOCK)
        ]

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._blocks:
            return b""
        assert size >= BLOCK
        self.now, data = self._blocks.pop(0)
        return data


def stream(monkeypatch: pytest.MonkeyPatch, *stretches: tuple[float, bytes]) -> Media:
    file = Arriving(*stretches)
    monkeypatch.setattr(demux, "monotonic", lambda: file.now)
    return live(av.open(file, format="mpegts", buffer_size=BLOCK), "cam", "mpegts", Budget(seconds=math.inf))


def drained(media: Media) -> list[Piece]:
    return list(read(media, video=Pictures(4.0), audio=Sound(16_000, mono=True)))


def ends(piece: Any) -> float:
    return piece.time + (0.25 if isinstance(piece, Frame) else len(piece.data) / 16_000)


@pytest.mark.parametrize(
    ("stamped", "passed", "reason", "starts"),
    [
        (72.0, 60.0, "jump", (60.0, 60.0)),  # a minute's outage
        (7_200.0, 7_188.0, "jump", (7_188.0, 7_188.0)),  # two hours'
        (0.0, 0.0, "reset", (0.0, 0.6)),  # the sender was started anew at once, or after a minute
        (0.0, 60.0, "reset", (57.5, 60.5)),  # what came first was late by the two seconds that opening takes
        (50_000.0, 60.0, "reset", (57.5, 60.5)),  # it cannot have been fourteen hours
        (40.0, 0.0, "reset", (0.0, 0.6)),
    ],
)
def test_gaps_are_told_as_they_were(stamped, passed, reason, starts, monkeypatch):
    """Each stream has one; its pictures and its sound keep their distance, and nothing is made up in between."""
    media = stream(monkeypatch, (0.0, stretch(0.0)), (SECONDS + passed, stretch(stamped)))
    pieces = drained(media)
    gaps = [p for p in pieces if isinstance(p, Gap)]
    assert {(g.modality, g.reason, g.source) for g in gaps} == {("video", reason, "cam"), ("audio", reason, "cam")}
    assert len(gaps) == 2
    for gap, kind in ((g, Frame if g.modality == "video" else Samples) for g in gaps):
        mine = [p for p in pieces if isinstance(p, kind)]
        before, after = ([p for p in mine if (p.time < gap.end) == early] for early in (True, False))
        assert gap.start == pytest.approx(SECONDS, abs=0.3)
        assert starts[0] - 0.3 <= gap.end - SECONDS <= starts[1] + 0.3
        assert after[0].time == gap.end
        assert ends(before[-1]) == pytest.approx(gap.start, abs=0.26)
        for run in (before, after):
            assert all(b.time == pytest.approx(ends(a), abs=0.26) for a, b in pairwise(run))
            assert ends(run[-1]) - run[0].time == pytest.approx(SECONDS, abs=0.5)
    assert abs(gaps[0].end - gaps[1].end) < 0.3


def test_every_picture_is_there_on_either_side(monkeypatch):
    """At its own time; the last before a gap is not shown on through it."""
    data = stretch(0.0), stretch(72.0, first=120)
    found = list(frames(stream(monkeypatch, (0.0, data[0]), (72.0, data[1]))))
    assert [number(f.data) for f in found] == list(range(240))
    want = [float(t) for part in data for t in sorted(stamps(part))]
    assert [f.time - found[0].time for f in found] == pytest.approx([t - want[0] for t in want], abs=1e-6)


def stamps(data: bytes) -> list[Fraction]:
    """Of the pictures, in seconds, as FFmpeg reads them."""
    with av.open(io.BytesIO(data)) as file:
        return [p.pts * p.time_base for p in file.demux(video=0) if p.pts is not None and p.time_base is not None]


def test_a_file_is_closed_up_as_it_was():
    """Nobody knows when it was sent."""
    media = open_media(stretch(0.0) + stretch(72.0))
    assert not [p for p in drained(media) if isinstance(p, Gap)]
    assert media.counts["discontinuity"]


def test_on_the_common_clock_the_gaps_tile_the_time(monkeypatch):
    """As chunks, on the clock of whatever is connected again and again."""
    media = stream(monkeypatch, (0.0, stretch(0.0)), (72.0, stretch(72.0)))
    items = [p if isinstance(p, Gap) else Chunk(p.data[None], p.time, ends(p), kind(p)) for p in drained(media)]
    names = ("video", "audio")
    told = again(lambda: marked(items, names, 0.0), "cam", names, clock=lambda: 0.0, backoff=Backoff(tries=1))
    clocks, gaps = dict.fromkeys(names, 0.0), []
    for item in islice(told, len(items)):
        assert item.start == pytest.approx(clocks[item.modality], abs=0.05)
        clocks[item.modality] = item.end
        gaps += [item] if isinstance(item, Gap) else []
    assert [g.reason for g in gaps] == ["jump", "jump"]
    assert all(59 < g.end - g.start < 61 for g in gaps)


def kind(piece: Any) -> str:
    return "video" if isinstance(piece, Frame) else "audio"
